"""The directory service of ``sample_flask`` as a Django project, whose API is guarded by tokenguard.

Run it with ``sample_django/manage.py``, or under gunicorn as ``sample_django.wsgi:application``, under uvicorn as
``sample_django.asgi:application``. The directory itself is defined in ``sample_flask``, by modules that need no
framework. All that concerns tokenguard is in ``settings.py`` and in ``views/``.
"""
