"""The plans: read, checked, kept compiled, selected by fault code.

`load_catalog`, `select` and `validate_params` are cheap to import. What needs YAML and Pydantic is in
`linting`, `wrapping` and `schema`; import those where they are used.
"""

from remediate.catalog.parameters import validate_params
from remediate.catalog.problem import Problem
from remediate.catalog.store import Catalog, load_catalog, select

__all__ = ["Catalog", "Problem", "load_catalog", "select", "validate_params"]
