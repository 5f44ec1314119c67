"""The shared vocabulary: messages, log records, catalogues, topics, tables and migrations. Knows no other room."""
