"""A Django project of one file, with the checks that its deployment guide asks for."""

import os
import sys

import adit
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.urls import path

settings.configure(
    DEBUG=False,
    SECRET_KEY="not a secret: a test's",
    ROOT_URLCONF=__name__,
    WSGI_APPLICATION=f"{__name__}.application",
    ALLOWED_HOSTS=[os.environ["ADIT_HOST"]],
    SECURE_SSL_REDIRECT="PLAIN" not in os.environ,
    CSRF_COOKIE_SECURE=True,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
)


def where(request):
    return JsonResponse(
        {
            "url": request.build_absolute_uri("/where"),
            "secure": request.is_secure(),
            "visitor": request.META["REMOTE_ADDR"],
        }
    )


def folder(request):
    return HttpResponse("the folder")


def form(request):
    if request.method == "POST":
        return HttpResponse(f"<p>{request.POST['user']}</p>")
    return HttpResponse(
        f'<form method="post"><input type="hidden" name="csrfmiddlewaretoken" value="{get_token(request)}">'
        '<input name="user" value="alice"><button>in</button></form>'
    )


urlpatterns = [path("where", where), path("folder/", folder), path("form", form)]
application, asgi = get_wsgi_application(), get_asgi_application()
if "PLAIN" not in os.environ:
    expect = os.environ.get("PROXY_PROTOCOL")
    application, asgi = adit.https(application, proxy_protocol=expect), adit.https(asgi, proxy_protocol=expect)

if __name__ == "__main__":
    sys.modules["django_app"] = sys.modules[__name__]
    execute_from_command_line(sys.argv)
