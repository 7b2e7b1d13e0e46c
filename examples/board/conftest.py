import pytest
from fastapi import FastAPI


@pytest.fixture
def app() -> FastAPI:
    from main import app

    return app
