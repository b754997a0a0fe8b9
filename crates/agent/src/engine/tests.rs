//! The engine against a kernel that refuses, loses answers, or is changed by others.

use notrack_core::diff::{ObservedChain, Transaction};
use notrack_core::manifest::parse;
use notrack_core::policy::validate;
use notrack_netlink::adapters::AdapterError;
use notrack_netlink::nft::Netfilter;
use notrack_netlink::nft::fake::Fake;

use super::*;

/// What the next commit, or every reading, comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trouble {
    #[default]
    None,
    /// The commit is refused.
    Refuses,
    /// The commit succeeds, and the answer is lost.
    Loses,
    /// The commit succeeds, and another program adds a chain to our table.
    Tampers,
    /// Nothing can be read.
    Hides,
}

#[derive(Default)]
struct Bed {
    fake: Fake,
    trouble: Trouble,
}

impl Netfilter for Bed {
    fn observe(&mut self) -> Result<Option<Observed>, NftError> {
        match self.trouble {
            Trouble::Hides => Err(NftError::Unsteady { tries: 8 }),
            _ => self.fake.observe(),
        }
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), NftError> {
        let no_buffer = NetlinkError::NoBuffer { what: "commit" };
        match std::mem::take(&mut self.trouble) {
            Trouble::Refuses => Err(NetlinkError::PermissionDenied { what: "commit" }.into()),
            Trouble::Loses => self.fake.commit(transaction).and(Err(no_buffer.into())),
            Trouble::Tampers => {
                self.fake.commit(transaction)?;
                let chain = ObservedChain { base: None, accepts: true, rules: Vec::new() };
                self.fake.table.get_or_insert_default().chains.insert("foreign".to_owned(), chain);
                Ok(())
            }
            Trouble::None | Trouble::Hides => self.fake.commit(transaction),
        }
    }
}

impl Kernel for Bed {
    fn generation(&mut self) -> Result<u32, NftError> {
        Ok(u32::try_from(self.fake.commits).unwrap())
    }

    fn counters(&mut self) -> Result<BTreeMap<String, CounterValue>, NftError> {
        Ok(BTreeMap::new())
    }

    fn adapters(&mut self) -> Result<BTreeSet<Present>, AdapterError> {
        Ok(BTreeSet::new())
    }

    fn change_adapters(&mut self, _: &[Adapter], _: &BTreeSet<Present>) -> Result<(), AdapterError> {
        Ok(())
    }
}

fn engine() -> Engine<Bed> {
    let settings = Settings { labels: BTreeMap::new(), own_port: None, lease: None, owns_table: false };
    Engine::with(Bed::default(), settings, Stop::default())
}

fn intent(port: u16) -> Intent {
    let text = format!(
        "apiVersion: notrack.dev/v1alpha1\nkind: NoTrackPolicy\nmetadata: {{name: p}}\nspec:\n  nodeSelector: {{}}\n  \
         mode: Enforce\n  flows:\n  - {{name: f, action: NoTrack, role: Server, ports: [{{protocol: TCP, port: {port}}}]}}\n"
    );
    let policy = validate(&parse("p.yaml", &text).manifests[0].policy).unwrap();
    let rule_set = RuleSet::new(vec![policy.into()], Vec::new());
    Intent { rule_set, digest: None, kept: Vec::new(), asked: Vec::new() }
}

/// Where nothing tracks there is nobody to hand connections over to: the host that runs the test is left alone.
fn facts() -> NodeFacts {
    let mut facts = NodeFacts { tracked: Tracked { ipv4: false, ipv6: false }, ..NodeFacts::assumed() };
    facts.addresses.insert([10, 0, 0, 1].into());
    facts
}

#[test]
fn what_is_programmed_is_what_was_read_back() {
    let mut engine = engine();
    let first = engine.reconcile(&intent(80), &facts(), None).unwrap();
    assert!(first.changed && first.policies.contains("p"), "{first:?}");
    assert_eq!(first.digest, engine.nft.fake.table.as_ref().map(Observed::digest));
    let again = engine.reconcile(&intent(80), &facts(), Some(&first.table)).unwrap();
    assert!(!again.changed && engine.nft.fake.commits == 1, "nothing is written where the kernel runs it");
    assert!(!engine.is_disturbed().unwrap());
    engine.nft.fake.commits += 1;
    assert!(engine.is_disturbed().unwrap(), "somebody else has committed");
}

#[test]
fn a_refused_commit_leaves_the_old_rules_and_is_tried_again() {
    let mut engine = engine();
    let first = engine.reconcile(&intent(80), &facts(), None).unwrap();
    engine.nft.trouble = Trouble::Refuses;
    let error = engine.reconcile(&intent(443), &facts(), Some(&first.table)).unwrap_err();
    assert_eq!(error.reason(), "CommitFailed");
    assert!(engine.is_in_doubt() && engine.runs(&first.table));
    let second = engine.reconcile(&intent(443), &facts(), Some(&first.table)).unwrap();
    assert!(second.changed && !engine.is_in_doubt() && engine.runs(&second.table));
}

#[test]
fn rules_that_are_read_back_otherwise_are_not_programmed() {
    let mut engine = engine();
    engine.nft.trouble = Trouble::Tampers;
    let error = engine.reconcile(&intent(80), &facts(), None).unwrap_err();
    assert_eq!(error.reason(), "NotProgrammed");
    assert!(engine.is_in_doubt());
    let repaired = engine.reconcile(&intent(80), &facts(), None).unwrap();
    assert!(repaired.changed && engine.runs(&repaired.table), "what others have added is gone");
}

#[test]
fn an_answer_that_was_lost_is_found_by_reading_back() {
    let mut engine = engine();
    engine.nft.trouble = Trouble::Loses;
    let programmed = engine.reconcile(&intent(80), &facts(), None).unwrap();
    assert!(programmed.changed && engine.nft.fake.commits == 1 && !engine.is_in_doubt());
}

#[test]
fn nothing_is_written_over_what_cannot_be_read() {
    let mut engine = engine();
    engine.nft.trouble = Trouble::Hides;
    let error = engine.reconcile(&intent(80), &facts(), None).unwrap_err();
    assert_eq!(error.reason(), "ReadFailed");
    assert!(error.is_transient() && engine.nft.fake.commits == 0 && !engine.is_in_doubt());
}

#[test]
fn without_policies_there_is_no_table() {
    let mut engine = engine();
    let first = engine.reconcile(&intent(80), &facts(), None).unwrap();
    let none = Intent { rule_set: RuleSet::new(Vec::new(), Vec::new()), ..intent(80) };
    let last = engine.reconcile(&none, &facts(), Some(&first.table)).unwrap();
    assert!(last.changed && last.digest.is_none() && engine.nft.fake.table.is_none());
}
