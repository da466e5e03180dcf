"""What tasks say and print: JSON documents and previews, as data and lines of text."""
