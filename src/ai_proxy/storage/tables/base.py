"""What all tables have in common."""

from sqlalchemy.orm import DeclarativeBase


class Table(DeclarativeBase):
    pass
