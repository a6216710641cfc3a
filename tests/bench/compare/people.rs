//! Who signs up: addresses of real length that never repeat and follow no order, and the requests they make.

use std::fmt::Write as _;

const NAMES: [&str; 16] = [
    "anna",
    "jan.de.vries",
    "m.bakker",
    "sophie",
    "pieter",
    "l.van.dijk",
    "noor",
    "daan.smit",
    "e.visser",
    "thomas",
    "fatima.k",
    "lucas",
    "j.mulder",
    "saar",
    "bram.bos",
    "olga",
];
const HOSTS: [&str; 8] = [
    "example.org",
    "mail.example.nl",
    "example-post.de",
    "provider.example",
    "example.com",
    "kpn.example.nl",
    "students.example",
    "example.co.uk",
];
const SOURCES: [&str; 4] = [
    "news",
    "shop/checkout",
    "blog/2026/11/letter",
    "events/autumn",
];
const LOCALES: [&str; 2] = ["en", "nl"];

/// A stream of people that depends on its seed alone.
#[derive(Clone, Copy, Debug)]
pub struct People {
    seed: u64,
}

impl People {
    /// Takes the seed; each number of a stream is another person.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// A bijection of 48 bits: no two numbers meet, and neighbours are far apart.
    fn mixed(self, n: u64) -> u64 {
        const MASK: u64 = (1 << 48) - 1;
        let mut x = (n ^ self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)) & MASK;
        for factor in [0x476d_1ce4_e5b9, 0x49bb_1331_11eb] {
            x = (x ^ (x >> 23)).wrapping_mul(factor) & MASK;
        }
        x ^ (x >> 23)
    }

    /// Writes the address of person `n`: 25 to 38 characters.
    fn address(self, n: u64, into: &mut String) {
        let x = self.mixed(n);
        let (name, host) = (NAMES[x as usize % 16], HOSTS[(x >> 4) as usize % 8]);
        let _ = write!(into, "{name}.");
        // All 48 bits are there: seven as the choice of name and host, the rest as digits of base 36.
        let mut rest = x >> 7;
        for _ in 0..8 {
            into.push(char::from_digit((rest % 36) as u32, 36).unwrap_or('0'));
            rest /= 36;
        }
        let _ = write!(into, "@{host}");
    }

    /// Returns what writes the request by which person `n` signs up, everything on.
    pub fn signup(self, key: &str) -> impl Fn(u64, &mut Vec<u8>) + Send + Sync + 'static {
        let head = format!(
            "POST /v1/signups HTTP/1.1\r\nhost: lists.acme.example\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\n"
        );
        move |n, into| {
            let x = self.mixed(n);
            let mut body = String::with_capacity(256);
            body.push_str(r#"{"email":""#);
            self.address(n, &mut body);
            let (source, locale) = (
                SOURCES[(x >> 40) as usize % 4],
                LOCALES[(x >> 42) as usize % 2],
            );
            let _ = write!(
                body,
                r#"","lists":["weekly"],"locale":"{locale}","ref":"order-{x:012x}","consent":{{"action":"checkbox","source":"https://acme.example/{source}"}}}}"#
            );
            let mut text = String::with_capacity(128);
            let _ = write!(
                text,
                "idempotency-key: \"{:016x}{n:016x}\"\r\ncontent-length: {}\r\n\r\n",
                x.rotate_left(17),
                body.len()
            );
            into.extend_from_slice(head.as_bytes());
            into.extend_from_slice(text.as_bytes());
            into.extend_from_slice(body.as_bytes());
        }
    }
}
