"""Pure decisions. A core is told the time, the chance and the outcome, and answers with a decision; it never looks."""
