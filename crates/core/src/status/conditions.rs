//! The conditions, read off the tallies.

use jiff::Timestamp;
use notrack_api as api;
use notrack_api::condition::{ACCEPTED, EXPIRED, PROGRAMMED, READY, RECONCILING, STALLED};

use crate::evidence::{self, cut};
use crate::hazard::Cause;

use super::tally::{Kind, Tally, nodes};
use super::{PolicyView, own_findings};

/// Far below what the schema allows: people read these, and each status is stored with every change.
const MAX_MESSAGE: usize = 1000;
const MAX_QUOTE: usize = 300;

/// What a condition says.
pub(super) struct Verdict {
    pub(super) holds: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Verdict {
    fn yes(reason: &str, message: impl Into<String>) -> Verdict {
        Verdict { holds: true, reason: reason.to_owned(), message: message.into() }
    }

    fn no(reason: &str, message: impl Into<String>) -> Verdict {
        Verdict { holds: false, ..Verdict::yes(reason, message) }
    }

    /// As a condition; its transition time moves only when its status does.
    pub(super) fn condition(
        self,
        type_: &str,
        generation: i64,
        previous: Option<&api::NoTrackPolicyStatus>,
        now: Timestamp,
    ) -> api::Condition {
        let status = if self.holds { api::ConditionStatus::True } else { api::ConditionStatus::False };
        let same = previous
            .into_iter()
            .flat_map(|previous| &previous.conditions)
            .find(|condition| condition.type_ == type_ && condition.status == status);
        api::Condition {
            type_: type_.to_owned(),
            status,
            reason: self.reason,
            message: cut(&self.message, MAX_MESSAGE),
            last_transition_time: same.map_or(api::Time(now), |same| same.last_transition_time.clone()),
            observed_generation: Some(generation),
        }
    }
}

/// `all` are the selected nodes, `judged` those of them that count for Ready.
pub(super) fn conditions(
    policy: &PolicyView<'_>,
    all: &Tally<'_>,
    judged: &Tally<'_>,
    now: Timestamp,
) -> Vec<api::Condition> {
    let programmed = obstacle(policy, all, all).unwrap_or_else(|| {
        Verdict::yes("Programmed", format!("read back from the kernels of {}", nodes(all.counts.programmed)))
    });
    let ready = obstacle(policy, all, judged).unwrap_or_else(|| in_order(policy, all));
    let found = [
        (ACCEPTED, Some(accepted(policy, all, judged))),
        (PROGRAMMED, Some(programmed)),
        (READY, Some(ready)),
        (EXPIRED, policy.expired.then(|| Verdict::yes("Expired", ended(all)))),
        (RECONCILING, reconciling(policy, all, judged)),
        (STALLED, stalled(policy, judged)),
    ];
    found
        .into_iter()
        .filter_map(|(type_, verdict)| {
            Some(verdict?.condition(type_, policy.generation, policy.previous, now))
        })
        .collect()
}

fn accepted(policy: &PolicyView<'_>, all: &Tally<'_>, judged: &Tally<'_>) -> Verdict {
    let everywhere = all.counts.blocked == all.available() && judged.counts.blocked > 0;
    match all.ranked(&[Kind::Blocking]).first() {
        Some((reason, _)) if everywhere && !policy.expired => {
            Verdict::no(reason, blocked(policy, all, reason))
        }
        _ => Verdict::yes("Valid", "the policy is well-formed"),
    }
}

/// What keeps `judged` from being in order, if anything does.
fn obstacle(policy: &PolicyView<'_>, all: &Tally<'_>, judged: &Tally<'_>) -> Option<Verdict> {
    if policy.expired {
        return Some(Verdict::no("Expired", ended(all)));
    }
    if all.counts.matched == 0 {
        let message = "spec.nodeSelector selects no node: correct it, or label the nodes that are meant";
        return Some(Verdict::no("NoMatchingNode", message));
    }
    if all.available() == 0 {
        return Some(Verdict::no("AwaitingAgents", awaiting(all)));
    }
    if let Some((reason, _)) = judged.ranked(&[Kind::Blocking]).first() {
        return Some(Verdict::no(reason, blocked(policy, judged, reason)));
    }
    (judged.pending > 0).then(|| Verdict::no("Progressing", progress(judged)))
}

fn in_order(policy: &PolicyView<'_>, all: &Tally<'_>) -> Verdict {
    let counts = &all.counts;
    let mut message = match policy.audit {
        true => format!("counts on {} of {}, changes nothing", counts.programmed, nodes(counts.matched)),
        false => format!("in effect on {} of {}", counts.engaged, nodes(counts.matched)),
    };
    let rest = [
        ("not all of it: ", &[Kind::Note][..]),
        ("unavailable: ", &[Kind::Unavailable]),
        ("joined less than five minutes ago: ", &[Kind::Blocking, Kind::Pending]),
    ];
    for (title, kinds) in rest {
        let text = all.text(kinds);
        if !text.is_empty() {
            message = format!("{message}; {title}{text}");
        }
    }
    let everywhere = counts.programmed == counts.matched;
    Verdict::yes(if everywhere { "AllNodes" } else { "ReadyWithUnavailableNodes" }, message)
}

/// Nothing is reconciled for the nodes that may still take their time: kstatus would call the policy unfinished at
/// every turn of an autoscaler.
fn reconciling(policy: &PolicyView<'_>, all: &Tally<'_>, judged: &Tally<'_>) -> Option<Verdict> {
    if policy.expired {
        // On its way out: what still runs it is what is left to do.
        return (all.pending + all.counts.programmed > 0).then(|| Verdict::yes("Progressing", ended(all)));
    }
    if all.counts.matched > 0 && all.available() == 0 {
        return Some(Verdict::yes("AwaitingAgents", awaiting(all)));
    }
    (judged.pending > 0).then(|| Verdict::yes("Progressing", progress(judged)))
}

fn stalled(policy: &PolicyView<'_>, judged: &Tally<'_>) -> Option<Verdict> {
    let ranked = judged.ranked(&[Kind::Blocking]);
    let (reason, _) = ranked.first().filter(|_| judged.pending == 0 && !policy.expired)?;
    Some(Verdict::yes(reason, blocked(policy, judged, reason)))
}

fn awaiting(tally: &Tally<'_>) -> String {
    let why = tally.text(&[Kind::Unavailable]);
    format!("no agent reports from {}: {why}; look at the agent's pods there", nodes(tally.counts.matched))
}

fn progress(tally: &Tally<'_>) -> String {
    let (done, of) = (tally.counts.programmed, nodes(tally.available()));
    format!("programmed on {done} of {of} that report; {}", tally.text(&[Kind::Pending]))
}

fn blocked(policy: &PolicyView<'_>, tally: &Tally<'_>, reason: &str) -> String {
    let (stuck, of) = (tally.stuck(), nodes(tally.available()));
    let mut message =
        format!("blocked or failed on {stuck} of {of} that report: {}", tally.text(&[Kind::Blocking]));
    if tally.pending > 0 {
        message = format!("{message}; {} pending", tally.pending);
    }
    let matching = own_findings(policy).into_iter().find(|finding| finding.cause.name() == reason);
    if let Some(finding) = matching {
        message = format!("{message}; flow {}: {}", finding.flow, evidence::within(finding, MAX_QUOTE));
        if let Cause::Hazard(kind) = finding.cause {
            message = format!("{message}; {}", kind.remedy());
        }
    }
    message
}

fn ended(tally: &Tally<'_>) -> String {
    let left = tally.pending + tally.counts.programmed;
    match left {
        0 => "spec.expireTime has passed: its traffic is tracked again".to_owned(),
        left => format!("spec.expireTime has passed; {} still to report that it has ended", nodes(left)),
    }
}
