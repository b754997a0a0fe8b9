//! The connection table of the real kernel, made by real packets on loopback devices. Every test has
//! namespaces of its own, so that all of them run at once.

#[cfg(test)]
#[path = "conntrack"]
mod conntrack {
    mod delete;
    mod filter;
    mod socket;
    mod support;
    mod table;
    mod tracking;
}
