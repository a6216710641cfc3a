//! The tokens in a mail: where they stand, wherever an encoding has broken the lines.
//!
//! Tokens begin alike, with their version, and are of one length and of characters that no encoding changes: so a mail with
//! others in their places is the mail that would have been made with those.

use std::ops::Range;

use memchr::memchr;

/// A soft line break of quoted-printable (RFC 2045, section 6.7).
const SOFT_BREAK: &[u8] = b"=\r\n";

/// A piece of a token: a whole one, unless a line was broken in it.
pub(super) struct Piece {
    /// Where in the mail.
    place: Range<usize>,
    /// Which of the tokens.
    token: usize,
    /// Its first character here.
    from: usize,
}

/// Finds these tokens.
pub(super) fn find(mail: &[u8], tokens: &[String]) -> Vec<Piece> {
    let Some(first) = tokens.iter().find_map(|token| token.bytes().next()) else {
        return Vec::new();
    };
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(skipped) = memchr(first, &mail[at..]) {
        at += skipped;
        let mut numbered = tokens.iter().enumerate();
        let pieces = numbered.find_map(|(number, token)| pieces_of(mail, at, number, token));
        let pieces = pieces.unwrap_or_default();
        at = pieces.last().map_or(at + 1, |last| last.place.end);
        found.extend(pieces);
    }
    found
}

/// Returns the pieces of a token that begins here.
fn pieces_of(mail: &[u8], at: usize, number: usize, token: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let (mut at, mut from) = (at, 0);
    while from < token.len() {
        let rest = token.as_bytes()[from..].iter();
        let same = rest.zip(&mail[at..]).take_while(|(a, b)| a == b).count();
        if same == 0 {
            return None;
        }
        pieces.push(Piece {
            place: at..at + same,
            token: number,
            from,
        });
        (at, from) = (at + same, from + same);
        if from < token.len() {
            mail[at..].strip_prefix(SOFT_BREAK)?;
            at += SOFT_BREAK.len();
        }
    }
    Some(pieces)
}

/// Puts tokens in the places of those that were found, which are as many and as long.
pub(super) fn fill(mail: &mut [u8], pieces: &[Piece], tokens: &[String]) {
    for Piece { place, token, from } in pieces {
        let piece = &tokens[*token].as_bytes()[*from..][..place.len()];
        mail[place.clone()].copy_from_slice(piece);
    }
}

/// Returns a mail as everybody may see it: with each of these tokens replaced by `*` of the same length.
pub(super) fn masked(mut mail: Vec<u8>, tokens: &[String]) -> Vec<u8> {
    for piece in find(&mail, tokens) {
        mail[piece.place].fill(b'*');
    }
    mail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> [String; 2] {
        ["Ab-c".to_owned(), "Abd_".to_owned()]
    }

    fn mask(mail: &str) -> String {
        String::from_utf8(masked(mail.into(), &tokens())).unwrap()
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

    #[test]
    fn others_are_put_in_the_places_of_those_found() {
        let mut mail = b"x/Abd=\r\n_ y/Ab-c".to_vec();
        let pieces = find(&mail, &tokens());
        fill(&mut mail, &pieces, &["1234".to_owned(), "5678".to_owned()]);
        assert_eq!(mail, b"x/567=\r\n8 y/1234");
    }
}
