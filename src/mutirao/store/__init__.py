"""What is kept: the tables (models, consequence), migrations, and the audit."""

from mutirao.store import consequence as consequence
