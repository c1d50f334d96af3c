"""What a contact may be, where two readers of one pattern might differ."""

from __future__ import annotations

import msgspec
import pytest

from livecart.contacts import Contact

DOOR = {"name": "陳小姐", "address1": "x", "country": "TW"}


@pytest.mark.parametrize("odd", ["\x85", "\ufeff", "\x1c", "\x7f", " ", "\u3000", "@", "\n"])
def test_an_address_of_mail_has_no_space_of_any_kind(odd: str) -> None:
    """Python and ECMA-262, which the document speaks, disagree on what a space is in some."""
    for email in (f"{odd}a@example.org", f"a@example.org{odd}", f"a{odd}@example.org"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(DOOR | {"email": email}, Contact)


@pytest.mark.parametrize("email", ["a@example.org", "陳@例子.台灣", "a+b.c@x"])
def test_an_address_of_mail_may_be_in_any_script(email: str) -> None:
    """Nothing but its form is checked: whether it is somebody's, a mail will tell."""
    assert msgspec.convert(DOOR | {"email": email}, Contact).email == email
