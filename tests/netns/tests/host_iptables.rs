//! The rules of both old iptables as they are read, held against what the programs list and what the kernel does.

#[cfg(test)]
#[path = "host_iptables"]
mod host_iptables {
    mod packets;
    mod rules;
    mod support;
}
