use std::io::Write;
use std::net::TcpListener;

use notrack_core::manifest::parse;
use notrack_core::policy::validate;

use super::*;

/// A server that says `greeting` to whoever connects, for ever.
fn server(greeting: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(greeting);
            open.push(stream);
        }
    });
    reachable(address)
}

#[test]
fn a_server_of_ssh_is_known_by_its_greeting() {
    assert_eq!(greets(server(b"SSH-2.0-OpenSSH_9.9\r\n")), Some(true));
    assert_eq!(greets(server(b"220 mail.example ESMTP\r\n")), Some(false));
    assert_eq!(greets(server(b"SS")), Some(false));
    let started = Instant::now();
    assert_eq!(greets(server(b"")), Some(false), "a server of HTTP waits for its client");
    assert!(started.elapsed() < PATIENCE * 3);
    assert_eq!(greets("127.0.0.1:1".parse().unwrap()), None, "nobody");
}

#[test]
fn who_could_not_be_asked_is_asked_again() {
    let mut ssh = Ssh::default();
    let key = (2222, "1".to_owned());
    ssh.answers.insert(key.clone(), None);
    ssh.note(key.clone(), None);
    assert!(!ssh.answers.contains_key(&key));
    ssh.note(key.clone(), Some(false));
    assert_eq!(ssh.answers.get(&key), Some(&Some(false)));
}

#[test]
fn an_answer_is_remembered_for_its_socket_and_waited_for_when_rules_are_new() {
    let mut ssh = Ssh::default();
    let address = server(b"SSH-2.0-test\r\n");
    let listener = listeners::all().into_iter().find(|found| found.address.port() == address.port()).unwrap();
    assert!(ssh.ask(&listener));
    ssh.answers.insert(key(&listener), None);
    ssh.wait();
    assert_eq!(ssh.answers.get(&key(&listener)), Some(&Some(true)));
    let rules = RuleSet::new(Vec::new(), Vec::new());
    assert_eq!(ssh.ports(&rules, false).get(&address.port()), Some(&"SSH (answers with its greeting)"));
    ssh.answers.insert((1, "0".into()), Some(true));
    assert!(!ssh.ports(&rules, true).contains_key(&1), "a socket that is gone is forgotten");
}

#[test]
fn a_port_held_by_a_visible_process_is_not_asked() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = format!(
        "apiVersion: notrack.dev/v1alpha1\nkind: NoTrackPolicy\nmetadata: {{name: p}}\nspec:\n  nodeSelector: {{}}\n  \
         mode: Enforce\n  flows:\n  - {{name: f, action: NoTrack, role: Server, ports: [{{protocol: TCP, port: {port}}}]}}\n"
    );
    let parsed = parse("p.yaml", &text);
    let policy = validate(&parsed.manifests[0].policy).unwrap();
    let rules = RuleSet::new(vec![policy.into()], Vec::new());
    assert_eq!(named_ports(&rules), [PortRange::one(port)]);
    let mut ssh = Ssh::default();
    let found = ssh.ports(&rules, true);
    assert!(!found.contains_key(&port), "{found:?}");
    assert!(listener.accept().is_err(), "nobody has connected");
}
