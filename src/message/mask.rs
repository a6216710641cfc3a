//! A mail as everybody may see it: with its tokens masked.

/// A soft line break of quoted-printable (RFC 2045, section 6.7).
const SOFT_BREAK: &[u8] = b"=\r\n";

/// Returns a mail with each of these tokens replaced by `*` of the same length, also where a soft line break stands in it.
///
/// The same bytes as of a mail made with `*` for tokens: both are characters that no encoding changes.
pub(super) fn masked(mut mail: Vec<u8>, tokens: &[String]) -> Vec<u8> {
    let begins = |byte: &u8| {
        tokens
            .iter()
            .any(|token| token.as_bytes().first() == Some(byte))
    };
    let mut at = 0;
    while let Some(skipped) = mail[at..].iter().position(begins) {
        at += skipped;
        let found = tokens.iter().find_map(|token| end_of(&mail, at, token));
        let Some(end) = found else {
            at += 1;
            continue;
        };
        while at < end {
            if mail[at..].starts_with(SOFT_BREAK) {
                at += SOFT_BREAK.len();
            } else {
                mail[at] = b'*';
                at += 1;
            }
        }
    }
    mail
}

/// Returns where a token that begins here ends.
fn end_of(mail: &[u8], mut at: usize, token: &str) -> Option<usize> {
    for byte in token.bytes() {
        if mail.get(at) != Some(&byte) {
            at += SOFT_BREAK.len();
            let broken = mail.get(at - SOFT_BREAK.len()..at) == Some(SOFT_BREAK);
            if !broken || mail.get(at) != Some(&byte) {
                return None;
            }
        }
        at += 1;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(mail: &str) -> String {
        let tokens = ["Ab-c".to_owned(), "Abd_".to_owned()];
        String::from_utf8(masked(mail.into(), &tokens)).unwrap()
    }

    #[test]
    fn every_token_is_masked_and_nothing_else() {
        assert_eq!(mask("<x/Ab-c> Ab-cAbd_"), "<x/****> ********");
        assert_eq!(mask("Ab-C Abc Ab- Ab"), "Ab-C Abc Ab- Ab");
        assert_eq!(mask(""), "");
    }

    #[test]
    fn a_soft_line_break_stays_where_it_is() {
        assert_eq!(mask("x/A=\r\nb-c"), "x/*=\r\n***");
        assert_eq!(mask("x/Ab-=\r\nc."), "x/***=\r\n*.");
        assert_eq!(mask("A=\r\nb=3D-c"), "A=\r\nb=3D-c");
        assert_eq!(mask("=\r\nAb-c=\r\n"), "=\r\n****=\r\n");
    }
}
