//! A network between a daemon and its relay: two namespaces, a pair of interfaces, and rules that lose, reset or swallow.
//!
//! The harness has a network namespace of its own already; the daemon gets another one.

use std::io::Write;
use std::process::{Child, Command, Stdio};

/// Where the daemon finds the relay, and where the driver finds the daemon.
pub const OURS: &str = "10.98.0.1";
pub const THEIRS: &str = "10.98.0.2";

/// What comes in for us from the other side goes to loopback, where the peer listens.
const RULES: &str = "
    table ip faults {
        chain nat { type nat hook prerouting priority dstnat; ip daddr 10.98.0.1 dnat to 127.0.0.1; }
        chain in { type filter hook input priority 0; }
        chain out { type filter hook output priority 0; }
    }
";

/// The network; it goes when its holder ends, which is when this is dropped or the harness ends.
pub struct Net {
    holder: Child,
}

impl Net {
    /// Builds it.
    pub fn new() -> Net {
        // It ends with the pipe that is its standard input.
        let holder = Command::new("unshare")
            .args(["--net", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare: apt-get install util-linux");
        let net = Net { holder };
        let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net")).ok();
        let its = net.holder.id().to_string();
        while namespace(&its).is_none() || namespace(&its) == namespace("self") {
            std::thread::yield_now();
        }
        run(
            "ip",
            &[
                "link", "add", "faults0", "type", "veth", "peer", "name", "faults1", "netns", &its,
            ],
        );
        run(
            "ip",
            &["addr", "add", &format!("{OURS}/24"), "dev", "faults0"],
        );
        run("ip", &["link", "set", "faults0", "up"]);
        let inside = net.wrapper();
        let inside = |words: &[&str]| {
            let rest: Vec<&str> = inside[1..].iter().map(String::as_str).collect();
            run(&inside[0], &[&rest[..], words].concat());
        };
        inside(&[
            "ip",
            "addr",
            "add",
            &format!("{THEIRS}/24"),
            "dev",
            "faults1",
        ]);
        inside(&["ip", "link", "set", "faults1", "up"]);
        inside(&["ip", "link", "set", "lo", "up"]);
        let route = "/proc/sys/net/ipv4/conf/faults0/route_localnet";
        std::fs::write(route, "1").expect("it may lead to loopback");
        nft(RULES);
        net
    }

    /// The words before a program that runs on the other side.
    pub fn wrapper(&self) -> Vec<String> {
        let namespace = format!("--net=/proc/{}/ns/net", self.holder.id());
        vec!["nsenter".to_owned(), namespace, "--".to_owned()]
    }

    /// Adds a rule for what comes in from the daemon, or goes out to it.
    pub fn rule(&self, chain: &str, rule: &str) {
        nft(&format!("add rule ip faults {chain} {rule}"));
    }

    /// Lets everything pass, and returns how many packets did not.
    pub fn heal(&self) -> usize {
        let listed = Command::new("nft")
            .args(["list", "table", "ip", "faults"])
            .output();
        let listed = String::from_utf8(listed.expect("nft").stdout).expect("UTF-8");
        nft("flush chain ip faults in; flush chain ip faults out");
        let counts = listed.split("counter packets ").skip(1);
        let counts = counts.filter_map(|rest| rest.split(' ').next()?.parse::<usize>().ok());
        counts.sum()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
        let _ = Command::new("nft")
            .args(["delete", "table", "ip", "faults"])
            .status();
    }
}

fn nft(rules: &str) {
    let nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn();
    let mut nft = nft.expect("nft: apt-get install nftables");
    let mut stdin = nft.stdin.take().expect("piped");
    stdin.write_all(rules.as_bytes()).expect("nft reads");
    drop(stdin);
    assert!(nft.wait().is_ok_and(|done| done.success()), "nft: {rules}");
}

fn run(program: &str, words: &[&str]) {
    let done = Command::new(program).args(words).status();
    let done = done.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(done.success(), "{program} {}", words.join(" "));
}
