//! What fails around the controllers: others write what is theirs, they sleep, they are killed, their kinds go.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, kill};
use notrack_cluster::{PATIENCE, policy, processes_with};
use notrack_lab::{run_ok, wait_until};
use serde_json::Value;

use crate::World;

/// Of a node's agent, on the node.
const METRICS: &str = "http://127.0.0.1:9811/metrics";

impl World {
    /// What a controller says of itself, if it answers.
    fn status_of_controller(&self, pod: &str) -> Option<Value> {
        let path = format!("/api/v1/namespaces/notrack-system/pods/{pod}:9812/proxy/status");
        serde_json::from_str(&self.cluster.kubectl(&format!("get --raw {path}")).ok()?).ok()
    }

    /// Somebody else writes the same plans all the time: writes that carry an old resourceVersion are refused, and tried
    /// again on what is there.
    pub fn plans_change_under_the_controller(&self) {
        let mark = self.cluster.audit_mark().unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut number = 0;
                while !done.load(Ordering::Relaxed) {
                    number += 1;
                    self.cluster
                        .kubectl(&format!("annotate --overwrite nodeplans --all number={number}"))
                        .unwrap();
                }
            });
            for port in 9010..9015 {
                self.apply_other_to_kernels(port);
            }
            done.store(true, Ordering::Relaxed);
        });
        let writes = self.cluster.writes_since(mark).unwrap();
        let refused = writes.iter().filter(|write| write.code == 409).count();
        println!("{refused} of {} writes met a conflict; every change arrived", writes.len());
    }

    /// The leader stops, another takes over and changes the plans, and the first wakes up believing that it leads.
    pub fn a_controller_sleeps_through_its_lease(&self) {
        let leader = || {
            let lease = self.cluster.get("lease/notrack-controller -n notrack-system").unwrap();
            lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
        };
        let epochs = || -> Vec<i64> {
            let plans = self.cluster.get("nodeplans").unwrap();
            plans["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|plan| plan["spec"]["epoch"].as_i64().unwrap())
                .collect()
        };
        wait_until("somebody leads", PATIENCE, || !leader().is_empty()).unwrap();
        let sleeper = leader();
        let process = processes_with("POD_NAME", &sleeper);
        assert_eq!(process.len(), 1, "the process of {sleeper}");
        self.unchanged_while("the leader sleeps", || {
            kill(process[0], Signal::SIGSTOP).unwrap();
            let other = || !leader().is_empty() && leader() != sleeper;
            wait_until("another leads", PATIENCE, other).unwrap();
        });
        self.apply_other(9020);
        let before = epochs();
        self.unchanged_while("the sleeper wakes up", || {
            kill(process[0], Signal::SIGCONT).unwrap();
            // What it meant to write as the leader it has tried by then.
            let knows = || {
                let status = self.status_of_controller(&sleeper);
                status.is_some_and(|status| status["identity"] == *sleeper && status["term"].is_null())
            };
            wait_until("the sleeper answers, and knows that it does not lead", PATIENCE, knows).unwrap();
        });
        assert!(epochs().iter().zip(&before).all(|(now, before)| now >= before));
        self.apply_other(9021);
    }

    pub fn the_controllers_are_killed(&self) {
        self.unchanged_while("both controllers are killed", || {
            self.cluster
                .kubectl("delete pods -n notrack-system -l app.kubernetes.io/component=controller --now")
                .unwrap();
            self.cluster.wait_until_installed().unwrap();
        });
        // The new leader writes, with a later epoch; nothing else changes.
        self.apply_other(9003);
    }

    pub fn the_definitions_are_deleted(&self) {
        self.unchanged_while("the CRDs are deleted", || {
            self.cluster.kubectl("delete -k crds").unwrap();
            for node in &self.cluster.nodes {
                let told = || {
                    let metrics = run_ok(node.network().unwrap().command("curl").args(["-s", METRICS]));
                    // Its plan went first; that its kind is gone it learns when the watch ends.
                    ["PlanMissing", "KindMissing"].iter().any(|state| {
                        let line = format!("notrack_plan_state{{state=\"{state}\"}} 1");
                        metrics.as_ref().is_ok_and(|text| text.contains(&line))
                    })
                };
                wait_until(&format!("the agent of {} knows it", node.name), PATIENCE, told).unwrap();
            }
            let pods = "pods -n notrack-system -l app.kubernetes.io/component=controller";
            let pods = self.cluster.get(pods).unwrap();
            for pod in pods["items"].as_array().unwrap() {
                let name = pod["metadata"]["name"].as_str().unwrap();
                let stopped =
                    || self.status_of_controller(name).is_some_and(|status| status["stopped"].is_string());
                wait_until(&format!("{name} knows it"), PATIENCE, stopped).unwrap();
            }
        });
        self.cluster.kubectl("apply --server-side -k crds").unwrap();
        let made = || {
            let text = "nodeSelector: {}\nflows:\n- {name: http, action: NoTrack, role: Server, ports: [{protocol: TCP, port: 8080}]}";
            self.cluster.apply(&policy("edge", text)).is_ok()
        };
        wait_until("the API server serves the CRDs", PATIENCE, made).unwrap();
        self.wait_until_ready();
        assert!(self.is_bypassed());
    }

    pub fn the_definitions_are_older_than_the_controller(&self) {
        let path = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/pressure";
        run_ok(self.cluster.kubectl_command().args([
            "patch",
            "crd",
            "notrackpolicies.notrack.dev",
            "--type=json",
            "-p",
            &format!(r#"[{{"op": "remove", "path": "{path}"}}]"#),
        ]))
        .unwrap();
        self.unchanged_while("the CRDs are older than the controller", || {
            self.cluster
                .kubectl("delete pods -n notrack-system -l app.kubernetes.io/component=controller --now")
                .unwrap();
            let says = || {
                let logs = "logs -n notrack-system -l app.kubernetes.io/component=controller --tail=-1";
                self.cluster.kubectl(logs).is_ok_and(|log| log.to_lowercase().contains("upgrade the crds"))
            };
            wait_until("the controller says: upgrade the CRDs", PATIENCE, says).unwrap();
        });
    }
}
