//! The rules of other programs on the real kernel, as the agent reads them.

#[cfg(test)]
#[path = "host"]
mod host {
    mod iptables;
    mod meaning;
    mod programs;
    mod support;
    mod text;
}
