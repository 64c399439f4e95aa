"""What every other test here stands on: the browser believes a relay because it trusts its authority, and for no other
reason."""
import pytest
from playwright.sync_api import Error


def test_a_browser_that_does_not_trust_the_relay_refuses_its_tunnel(example, browser):
    url = example("basic.py").url()
    assert "Hello" in browser().page(url).inner_text("h1")
    with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
        browser.without_trust().page(url)
