//! Mail addresses: parsed once, never printed.

use std::fmt;

/// A mail address that can be mailed, in the spelling in which it was given.
///
/// Compared by [`Address::identity`]; limited by [`Address::limit_key`]; mailed as [`Address::as_str`].
/// `Debug` does not show it, and there is no `Display`: an address must not reach a log by accident.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Local part as given, domain in A-labels and lower case.
    spelled: String,
    at: usize,
}

impl Address {
    /// Parses what a person typed.
    ///
    /// Limits are counted in octets: 64 for the local part, 254 in all (RFC 5321, section 4.5.3.1).
    ///
    /// # Errors
    /// When the text is no address that can be mailed without SMTPUTF8: quoted local parts, comments, address
    /// literals, domains without a dot, non-ASCII local parts, control characters, encoded words.
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        if text.chars().any(char::is_control) {
            return Err(InvalidAddress::Control);
        }
        if text.len() > 254 {
            return Err(InvalidAddress::TooLong);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(InvalidAddress::NoAt)?;
        check_local(local)?;
        let domain = ascii_domain(domain)?;
        let spelled = format!("{local}@{domain}");
        if spelled.len() > 254 {
            return Err(InvalidAddress::TooLong);
        }
        Ok(Self {
            at: local.len(),
            spelled,
        })
    }

    /// Returns the address as mail goes to it.
    pub fn as_str(&self) -> &str {
        &self.spelled
    }

    /// Returns the domain, in A-labels and lower case.
    pub fn domain(&self) -> &str {
        &self.spelled[self.at + 1..]
    }

    /// Returns the text by which addresses are compared: two spellings of one mailbox are equal here.
    pub fn identity(&self) -> String {
        self.spelled.to_ascii_lowercase()
    }

    /// Returns the text by which mails to one mailbox are counted: plus-tags and Gmail's dots are folded away.
    ///
    /// Used for limits alone; no mail ever goes to this spelling.
    pub fn limit_key(&self) -> String {
        let local = self.spelled[..self.at].to_ascii_lowercase();
        let local = local
            .split_once('+')
            .map_or(local.as_str(), |(name, _)| name);
        match self.domain() {
            "gmail.com" | "googlemail.com" => format!("{}@gmail.com", local.replace('.', "")),
            domain => format!("{local}@{domain}"),
        }
    }
}

fn check_local(local: &str) -> Result<(), InvalidAddress> {
    // RFC 5322 atext: what needs no quotes.
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
    match local {
        "" => Err(InvalidAddress::NoLocal),
        _ if local.len() > 64 => Err(InvalidAddress::TooLong),
        _ if !local.is_ascii() => Err(InvalidAddress::NeedsSmtpUtf8),
        // An encoded word (RFC 2047) would be decoded by some mail programs into another address.
        _ if local.starts_with("=?") => Err(InvalidAddress::Local),
        _ if local
            .split('.')
            .all(|a| !a.is_empty() && a.bytes().all(atom)) =>
        {
            Ok(())
        }
        _ => Err(InvalidAddress::Local),
    }
}

fn ascii_domain(domain: &str) -> Result<String, InvalidAddress> {
    let ascii = idna::domain_to_ascii_strict(domain).map_err(|_| InvalidAddress::Domain)?;
    let top = ascii.rsplit('.').next().unwrap_or_default();
    let named = top.bytes().any(|b| b.is_ascii_alphabetic());
    if !ascii.contains('.') || !named || ascii.ends_with('.') || ascii.len() > 253 {
        return Err(InvalidAddress::Domain);
    }
    Ok(ascii)
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(..)")
    }
}

/// Why a text is no address that confirmd can mail; says it without repeating the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// Control characters, among them CR, LF and NUL.
    #[error("holds a control character")]
    Control,
    /// Longer than mail can carry.
    #[error("is longer than 254 octets, or 64 before the @")]
    TooLong,
    /// No `@`.
    #[error("has no @")]
    NoAt,
    /// Nothing before the `@`.
    #[error("has nothing before the @")]
    NoLocal,
    /// A local part that needs quotes.
    #[error("needs quotes or comments before the @, which confirmd does not mail")]
    Local,
    /// A local part outside ASCII.
    #[error("has letters outside ASCII before the @, which need SMTPUTF8 from end to end")]
    NeedsSmtpUtf8,
    /// No domain name, or one that does not exist in DNS form.
    #[error("has no valid domain name after the @")]
    Domain,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_is_kept_and_identity_folds_case() {
        let a = Address::parse("Anna.Jansen+News@Bücher.Example").unwrap();
        assert_eq!(a.as_str(), "Anna.Jansen+News@xn--bcher-kva.example");
        assert_eq!(
            a.identity(),
            Address::parse("anna.jansen+news@bücher.example")
                .unwrap()
                .identity()
        );
        assert_eq!(a.limit_key(), "anna.jansen@xn--bcher-kva.example");
        assert_eq!(format!("{a:?}"), "Address(..)");
    }

    #[test]
    fn gmail_dots_count_as_one_mailbox() {
        let a = Address::parse("a.n.n.a+x@googlemail.com").unwrap();
        let b = Address::parse("ANNA@gmail.com").unwrap();
        assert_eq!(a.limit_key(), b.limit_key());
        assert_ne!(a.identity(), b.identity());
    }

    #[test]
    fn what_cannot_be_mailed_is_refused_with_its_reason() {
        use InvalidAddress::*;
        let long_local = format!("{}@example.org", "a".repeat(65));
        let long = format!("a@{}.example", "b.".repeat(130));
        for (text, reason) in [
            ("", NoAt),
            ("anna", NoAt),
            ("@example.org", NoLocal),
            ("anna@", Domain),
            ("anna@localhost", Domain),
            ("anna@[127.0.0.1]", Domain),
            ("anna@127.0.0.1", Domain),
            ("anna@example.org.", Domain),
            ("anna@exa mple.org", Domain),
            ("anna@-example.org", Domain),
            ("\"anna b\"@example.org", Local),
            ("anna..b@example.org", Local),
            (".anna@example.org", Local),
            ("anna b@example.org", Local),
            ("anna,b@example.org", Local),
            ("a@b@example.org", Local),
            ("=?utf-8?q?x?=@example.org", Local),
            ("änna@example.org", NeedsSmtpUtf8),
            ("anna@example.org\r\nBcc: x@example.org", Control),
            ("anna\0@example.org", Control),
            (&long_local, TooLong),
            (&long, TooLong),
        ] {
            assert_eq!(Address::parse(text), Err(reason), "{text:?}");
        }
    }

    #[test]
    fn letters_that_only_look_alike_stay_apart() {
        // Unicode lower-casing would fold the Kelvin sign and the dotted capital I into ASCII.
        assert!(Address::parse("\u{212A}im@example.org").is_err());
        assert!(Address::parse("a@\u{212A}im.example").is_ok_and(|a| a.domain() == "kim.example"));
        assert!(
            Address::parse("a@g\u{131}thub.example").is_ok_and(|a| a.domain() != "github.example")
        );
    }
}
