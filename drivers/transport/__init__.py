"""Network connections that know no readings: drivers, upstreams and the receiver build on them."""
