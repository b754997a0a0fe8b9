//! The figures of the connection table, and what they mean.

use std::time::{Duration, Instant};

use notrack_core::pressure::{Assessment, ConntrackSample, assess};
use notrack_netlink::conntrack::Conntrack;
use notrack_netlink::socket::NetlinkError;

/// A trend is judged against a sample this old.
const TREND_WINDOW: Duration = Duration::from_secs(30);

/// Takes samples and remembers what they are compared with.
pub struct Sampler {
    conntrack: Conntrack,
    earlier: Option<(Instant, ConntrackSample)>,
    /// The last sample.
    pub sample: ConntrackSample,
    /// What it means.
    pub assessment: Assessment,
}

impl Sampler {
    /// Opens the connection table of this network namespace.
    pub fn open() -> Result<Sampler, NetlinkError> {
        Ok(Sampler {
            conntrack: Conntrack::open()?,
            earlier: None,
            sample: ConntrackSample::default(),
            assessment: Assessment::default(),
        })
    }

    /// Takes a sample. Where that fails the last one stays.
    pub fn take(&mut self) -> Result<(), NetlinkError> {
        let stats = self.conntrack.stats()?;
        let cpus = self.conntrack.cpu_stats()?;
        let sample = ConntrackSample {
            entries: u64::from(stats.entries),
            max: u64::from(stats.max),
            drops: cpus.drop + cpus.early_drop,
            insert_failed: cpus.insert_failed,
        };
        let last = self.sample;
        self.sample = sample;
        let (since, earlier) = self.earlier.unwrap_or((Instant::now(), sample));
        // Lost packets count against the last sample, the trend against an older one.
        let ConntrackSample { drops, insert_failed, .. } = if last.max == 0 { sample } else { last };
        let reference = ConntrackSample { drops, insert_failed, ..earlier };
        self.assessment = assess(sample, Some(reference), self.assessment.level);
        let is_old = since.elapsed() > TREND_WINDOW;
        self.earlier = Some(if is_old { (Instant::now(), sample) } else { (since, earlier) });
        Ok(())
    }
}
