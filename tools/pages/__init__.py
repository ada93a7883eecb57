"""Writers of the generated pages in references/."""
