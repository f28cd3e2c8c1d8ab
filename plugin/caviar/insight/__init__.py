"""What a study's stored trials say: importance, figures, cost, advice, and the report that holds them."""
