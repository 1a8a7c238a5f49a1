"""Small SVG charts: colours, scales, marks."""
