"""The plans: read, checked, kept compiled, selected by fault code.

What is named here is cheap to import. `parameters` checks values, `linting`, `wrapping` and `schema` need
YAML and Pydantic: import those where they are used.
"""

from remediate.catalog.store import Catalog, load_catalog, select

__all__ = ["Catalog", "load_catalog", "select"]
