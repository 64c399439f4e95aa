"""A model behind a URL, without a GPU: digits of eight by eight pixels, told by a nearest-neighbour search.

    adit serve examples/functions/model.py
    curl -sS URL/example                        # an image of the data set, and what it is
    curl -sSH 'Content-Type: application/json' -d '{"pixels": [0, 0, 5, ...]}' URL

The model is made once for each container, before its first visitor, and forgotten with it.
"""

from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, Field

from adit import App, Image, asgi_app

app = App("model")
image = Image.debian_slim().pip_install("scikit-learn")

with image.imports():
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier


class Digit(BaseModel):
    pixels: Annotated[list[float], Field(min_length=64, max_length=64)]


@app.function(image=image, memory=(256, 1024))
@asgi_app()
def digits():
    data = load_digits()
    model = KNeighborsClassifier(3).fit(data.data[100:], data.target[100:])  # the first hundred are for trying
    pages = FastAPI()

    @pages.post("/")
    def tell(digit: Digit):
        likely = model.predict_proba([digit.pixels])[0]
        return {"digit": int(likely.argmax()), "likelihood": float(likely.max())}

    @pages.get("/example")
    def example(number: int = 0):
        return {"pixels": data.data[number % 100].tolist(), "digit": int(data.target[number % 100])}

    return pages
