"""The server: embeddings over HTTP in the shapes of OpenAI and TEI, search, and the explorer page."""
