import pytest

from stream_app import errors


def test_every_error_is_a_stream_app_error() -> None:
    kinds = [
        it for it in vars(errors).values() if isinstance(it, type) and issubclass(it, Exception)
    ]
    assert len(kinds) == 14
    assert all(issubclass(kind, errors.StreamAppError) for kind in kinds)


def test_docstring_of_the_module_has_every_error() -> None:
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, Exception):
            assert name in (errors.__doc__ or "")


def test_configuration_error_holds_one_line_for_each_mistake() -> None:
    error = errors.ConfigurationError(["a is 1; write 2", "b is unknown; remove it"])
    assert error.mistakes == ("a is 1; write 2", "b is unknown; remove it")
    assert str(error) == "a is 1; write 2\nb is unknown; remove it"


@pytest.mark.parametrize("kind", [errors.TransientError, errors.PermanentError])
def test_delivery_error_keeps_the_code_of_s3(kind: type[errors.DeliveryError]) -> None:
    error = kind("SlowDown", "Reduce your request rate.")
    assert isinstance(error, errors.DeliveryError)
    assert (error.code, error.message) == ("SlowDown", "Reduce your request rate.")
    assert str(error) == "SlowDown: Reduce your request rate."


def test_transient_and_permanent_exclude_each_other() -> None:
    assert not issubclass(errors.TransientError, errors.PermanentError)
    assert not issubclass(errors.PermanentError, errors.TransientError)
