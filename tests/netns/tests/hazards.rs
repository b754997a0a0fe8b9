//! What rules written by hand do on nodes whose other rules need the entry, and that the agent sees it coming: each test
//! shows the harm on real traffic first. The last ones are nodes that only look dangerous.

#[cfg(test)]
#[path = "hazards"]
mod hazards {
    mod chosen;
    mod devices;
    mod fragments;
    mod helper;
    mod live;
    mod marks;
    mod masquerade;
    mod nothing;
    mod peers;
    mod pods;
    mod ports;
    mod precision;
    mod replicated;
    mod signals;
    mod sources;
    mod support;
    mod zones;
}
