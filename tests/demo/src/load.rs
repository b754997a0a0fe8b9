//! Traffic, and what became of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use notrack_lab::{Namespace, run_ok};

use crate::services::write;
use crate::site::Site;

/// What a load generator counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    pub per_second: f64,
    /// Requests without a good answer.
    pub errors: u64,
}

/// wrk's own report is for people; this one is for us.
const WRK_REPORT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format("\nfigures %.0f %.0f %.0f\n", summary.requests, summary.duration, errors))
end
"#;

/// HTTP from 64 clients at once, a new connection for each request.
pub fn http(site: &Site, folder: &Path, seconds: u32) -> Result<Load> {
    let script = folder.join("report.lua");
    write(&script, WRK_REPORT)?;
    let mut wrk = site.client.command("wrk");
    wrk.args(["-t1", "-c64", &format!("-d{seconds}s"), "--timeout", "5s"]);
    wrk.args(["-H", "Connection: close", "-s"]).arg(script);
    wrk.arg(format!("http://{}/", Site::service(80)));
    let said = run_ok(&mut wrk)?;
    parse_wrk(&said).with_context(|| format!("wrk said something new: {said}"))
}

fn parse_wrk(said: &str) -> Option<Load> {
    let figures = said.lines().find_map(|line| line.strip_prefix("figures "))?;
    let mut figures = figures.split(' ').map_while(|figure| figure.parse::<f64>().ok());
    let (requests, microseconds, errors) = (figures.next()?, figures.next()?, figures.next()?);
    Some(Load { per_second: requests * 1e6 / microseconds, errors: errors as u64 })
}

/// DNS queries from 768 sockets: dnsperf opens at most 256 a thread, and the customary limit is
/// 1,024 files.
pub fn dns(site: &Site, folder: &Path, seconds: u32) -> Result<Load> {
    let queries = folder.join("queries");
    write(&queries, "www.demo.test A\n")?;
    let mut dnsperf = site.client.command("dnsperf");
    dnsperf.args(["-s", &Site::NODE.to_string(), "-T3", "-c768", &format!("-l{seconds}"), "-d"]);
    let said = run_ok(dnsperf.arg(queries))?;
    parse_dnsperf(&said).with_context(|| format!("dnsperf said something new: {said}"))
}

fn parse_dnsperf(said: &str) -> Option<Load> {
    let field = |name: &str| {
        let rest = said.lines().find_map(|line| line.trim().strip_prefix(name))?;
        rest.split_whitespace().next()
    };
    let sent: u64 = field("Queries sent:")?.parse().ok()?;
    let good: u64 = match field("Response codes:")? {
        "NOERROR" => said.split("NOERROR ").nth(1)?.split(' ').next()?.parse().ok()?,
        _ => 0,
    };
    let per_second = field("Queries per second:")?.parse().ok()?;
    Some(Load { per_second, errors: sent.saturating_sub(good) })
}

/// A lost SYN is sent again after a second: an attempt that takes longer has lost one.
const ATTEMPT: Duration = Duration::from_millis(900);
const AT_ONCE: u64 = 100;

/// Tries `count` new connections, many at once, and returns how many got no whole answer.
pub fn lost_connections(from: &Namespace, to: SocketAddr, count: u64) -> Result<u64> {
    let worker = |number: u64| {
        let attempts = (number..count).step_by(AT_ONCE as usize);
        attempts.filter(|_| fetch(to).is_err()).count() as u64
    };
    // Threads belong to the namespace of the thread that starts them.
    from.enter(|| {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE).map(|number| scope.spawn(move || worker(number))).collect();
            // A worker that panicked has shown nothing to be well.
            workers.into_iter().map(|worker| worker.join().unwrap_or(count)).sum()
        })
    })
}

fn fetch(to: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, ATTEMPT)?;
    stream.set_read_timeout(Some(ATTEMPT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "answered {answer}");
    Ok(())
}

/// The middle one, so that one disturbed round does not tell the story.
pub fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generators_reports_are_understood() {
        let wrk = parse_wrk("Running 4s test\n\nfigures 40000 4000000 3\n").unwrap();
        assert_eq!(wrk, Load { per_second: 10_000.0, errors: 3 });
        let said = "Statistics:\n\n  Queries sent:         1000\n  Queries completed:    990 (99.00%)\n  \
            Queries lost:         10 (1.00%)\n\n  \
            Response codes:       NOERROR 980 (98.99%), SERVFAIL 10 (1.01%)\n  \
            Queries per second:   73202.352548\n";
        let dnsperf = parse_dnsperf(said).unwrap();
        assert_eq!(dnsperf, Load { per_second: 73_202.352_548, errors: 20 });
        assert_eq!(parse_wrk("nonsense"), None);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([9.0, 1.0, 5.0].into_iter()), 5.0);
    }
}
