"""What payment providers tell us: `POST /v1/hooks/{provider}`.

Owns nothing but the way in: the body as it came goes to the cashier, who has the provider check its
signature. Answered 2xx only once the effect is committed; anything else is sent again.
"""

from __future__ import annotations

from livecart.api.calls import Call
from livecart.api.operations import Operation
from orders.payments.cashier import NoProvider
from orders.payments.port import NotGenuine, ProviderAway, ProviderRefused
from streams.codes import Code
from streams.ports import Refused


async def heard(call: Call, body: bytes) -> None:
    """Take a provider's notice, signed by it; the same one again changes nothing."""
    services = call.services
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in call.headers}
    try:
        now_s = services.clock.now_ms() / 1000
        await services.cashier.hear(call.id("provider"), headers, body, now_s)
    except NoProvider:
        raise Refused(Code.NOT_FOUND) from None
    except NotGenuine:
        raise Refused(Code.UNAUTHENTICATED, "The signature does not fit, or is too old.") from None
    except ValueError as error:
        raise Refused(Code.BAD_REQUEST, "The notice cannot be read.") from error
    except (ProviderAway, ProviderRefused) as error:
        raise Refused(Code.RETRY) from error


OPERATIONS = (
    Operation(
        method="POST", path="/v1/hooks/{provider}", handle=heard, raw=True, unpaced=True,
        who="anyone", summary="Take a payment provider's notice", refusals=(Code.NOT_FOUND,),
    ),
)  # fmt: skip
