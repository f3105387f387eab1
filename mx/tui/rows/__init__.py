"""What each screen says of its rows: columns, filters, facts, documents. Pure: no Textual, no clock."""
