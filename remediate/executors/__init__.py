"""Carries out phases in supervised children; only the child imports Ansible."""
