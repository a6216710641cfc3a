use super::*;

const ORIGIN: &str = "lists.acme.example/confirmd";

fn signer() -> Signer {
    Signer::new(ORIGIN, &[7; 32]).unwrap()
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        origin: ORIGIN.to_owned(),
        size: 20_852_163,
        root: Hash::of(b"root"),
        time: Timestamp::parse("2026-11-23T12:00:00Z").unwrap(),
    }
}

/// From the documentation of Go's `golang.org/x/mod/sumdb/note`: the secret, the vkey and a signature by it.
const PETER: (&str, &str) = (
    "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz",
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
);
const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
const LINE: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

#[test]
fn the_published_vectors_hold() {
    let secret = BASE64.decode(PETER.0).unwrap();
    let peter = Signer::new("PeterNeumann", secret[1..].try_into().unwrap()).unwrap();
    assert_eq!(peter.verifier().to_string(), PETER.1);
    assert_eq!(PETER.1.parse(), Ok(peter.verifier()));
    assert_eq!(peter.line(TEXT), LINE);
    let signature = Signature::read(LINE.trim_end()).unwrap();
    assert_eq!(
        (signature.name, signature.id),
        ("PeterNeumann", peter.verifier.id)
    );
    assert!(peter.verifier().verify(TEXT, &signature.bytes));
    assert!(
        !peter
            .verifier()
            .verify(&TEXT.replace("n't", ""), &signature.bytes)
    );

    let enoch = Signer::new("EnochRoot", &[0; 32]).unwrap().verifier();
    let vkey = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";
    assert_eq!(enoch.to_string(), vkey);
    // RFC 8032, section 5.1.5, for a seed of zeros.
    assert_eq!(enoch.public_key()[..4], [0x3b, 0x6a, 0x27, 0xbc]);
}

#[test]
fn a_key_has_one_spelling() {
    use InvalidKey::*;
    let base64 = PETER.1.rsplit_once('+').unwrap().1;
    for (text, error) in [
        ("", Form),
        ("PeterNeumann+c74f20a3", Form),
        (&PETER.1.replace("ARpc", "AR c"), Form),
        (&PETER.1[..PETER.1.len() - 4], Form),
        (&format!("{}AAAA", PETER.1), Form),
        (&PETER.1.replace("+ARpc", "+BBpc"), Kind),
        (&PETER.1.replace("+ARpc", "+ARpd"), Id),
        (&PETER.1.replace("c74f20a3", "c74f20a4"), Id),
        (&PETER.1.replace("c74f20a3", "C74F20A3"), Id),
        (&PETER.1.replace("c74f20a3", "0c74f20a3"), Id),
        (&PETER.1.replace("Peter", "Petra"), Id),
        (&format!("+c74f20a3+{base64}"), Name),
        (&format!("Peter Neumann+c74f20a3+{base64}"), Name),
        (&format!("Peter\u{2003}Neumann+c74f20a3+{base64}"), Name),
        (&format!("Peter\nNeumann+c74f20a3+{base64}"), Name),
    ] {
        assert_eq!(text.parse::<Verifier>(), Err(error), "{text}");
    }
    for name in ["", "a b", "a+b", "a\nb", "a\0b", "a\u{85}b", "a\u{7f}b"] {
        assert_eq!(Signer::new(name, &[7; 32]).unwrap_err(), Name, "{name:?}");
    }
    let shown = format!("{:?}", signer());
    assert_eq!(shown, format!("Signer of {}", signer().verifier()));
}

#[test]
fn a_checkpoint_is_signed_and_opened() {
    let note = checkpoint().sign(&signer());
    assert_eq!(
        note,
        "lists.acme.example/confirmd\n\
         20852163\n\
         SBNJTRN+FjG7owHVrKtue7eqdM4RhdRWVl71HXN2d7I=\n\
         time 2026-11-23T12:00:00.000000Z\n\
         \n\
         — lists.acme.example/confirmd ZsDA5MNUyaX/QYF4S8nIb42bJSNHp9OgUSvONtojXw2kwEK7db1xwaG/kvXHg3qObkMKqSABjBl0oWtZnEt3tO3Y9QY=\n"
    );
    let open = |note: &str, keys: &[Verifier]| Checkpoint::open(note, keys);
    let key = signer().verifier();
    let keys = [key.clone()];
    assert_eq!(open(&note, &keys), Ok(checkpoint()));

    // Witnesses sign below, or above, with keys that nobody here knows; or that we know.
    let witness = Signer::new("witness.example", &[8; 32]).unwrap();
    let line = witness.line(&checkpoint().text());
    let below = format!("{note}{line}— w.example AAAAAAA=\n");
    let above = note.replace("\n\n", &format!("\n\n{line}"));
    for note in [&below, &above] {
        assert_eq!(open(note, &keys), Ok(checkpoint()));
        let both = [witness.verifier(), key.clone()];
        assert_eq!(open(note, &both), Ok(checkpoint()));
    }
    let spoiled = below.replace(&line, &witness.line("another text\n"));
    assert_eq!(open(&spoiled, &keys), Ok(checkpoint()));
    let keys = [witness.verifier(), key.clone()];
    let bad = NoteError::BadSignature(format!("witness.example+{:08x}", {
        u32::from_be_bytes(witness.verifier.id)
    }));
    assert_eq!(open(&spoiled, &keys), Err(bad));

    // A key id is short: another name may have the same, and means nothing here.
    let same_id = [&keys[0].id, [0; 64].as_slice()].concat();
    let same_id = format!("{note}— w.example {}\n", BASE64.encode(same_id));
    assert_eq!(open(&same_id, &keys), Ok(checkpoint()));

    // A new key of the same name, beside the old one.
    let new = Signer::new(ORIGIN, &[9; 32]).unwrap();
    let both = format!("{note}{}", new.line(&checkpoint().text()));
    for keys in [
        vec![key.clone()],
        vec![new.verifier()],
        vec![new.verifier(), key.clone()],
    ] {
        assert_eq!(open(&both, &keys), Ok(checkpoint()));
    }
}

#[test]
fn a_note_by_another_key_is_refused() {
    let note = checkpoint().sign(&signer());
    let id = u32::from_be_bytes(signer().verifier.id);
    let unknown = Err(NoteError::UnknownKey(format!("{ORIGIN}+{id:08x}")));
    let other = Signer::new(ORIGIN, &[8; 32]).unwrap();
    assert_eq!(Checkpoint::open(&note, &[]), unknown);
    assert_eq!(Checkpoint::open(&note, &[other.verifier()]), unknown);

    // The key is known, under a name that is not the origin: it may only witness.
    let witness = Signer::new("witness.example", &[7; 32]).unwrap();
    let note = checkpoint().sign(&witness);
    let opened = Checkpoint::open(&note, &[witness.verifier(), signer().verifier()]);
    assert_eq!(opened, Err(NoteError::UnknownKey(String::new())));
}

#[test]
fn everything_signed_is_covered() {
    let keys = [signer().verifier()];
    let good = checkpoint();
    let line = signer().line(&good.text());
    let bad = |changed: Checkpoint| {
        let opened = Checkpoint::open(&format!("{}\n{line}", changed.text()), &keys);
        assert!(
            matches!(opened, Err(NoteError::BadSignature(_))),
            "{opened:?}"
        );
    };
    bad(Checkpoint {
        size: 20_852_164,
        ..good.clone()
    });
    bad(Checkpoint {
        root: Hash::of(b"r"),
        ..good.clone()
    });
    bad(Checkpoint {
        time: Timestamp::from_seconds(0),
        ..good.clone()
    });

    let signature = Signature::read(line.trim_end()).unwrap();
    let (r, s) = signature.bytes.split_at(32);
    for at in 0..64 {
        let mut bytes = signature.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        assert!(!keys[0].verify(&good.text(), &bytes), "byte {at}");
    }
    assert!(!keys[0].verify(&good.text(), r) && !keys[0].verify(&good.text(), s));
    // RFC 8032, section 5.1.7: s must be below the order of the group, or one signature would have several forms.
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    let sum = s.iter().zip(ORDER).map(|(a, b)| {
        let sum = u16::from(*a) + u16::from(b) + carry;
        carry = sum >> 8;
        sum as u8
    });
    let bytes = [r, &sum.collect::<Vec<_>>()].concat();
    assert!(!keys[0].verify(&good.text(), &bytes));
}

#[test]
fn a_malformed_note_is_refused_by_line() {
    let note = checkpoint().sign(&signer());
    let line = note.lines().nth(5).unwrap();
    let edits: &[(&str, &str, usize)] = &[
        (ORIGIN, "", 1),
        ("lists.acme.example/confirmd\n2", "lists acme\n2", 1),
        ("confirmd\n2", "confirmd\r\n2", 1),
        ("\n2085", "\n\n2085", 2),
        ("\n2085", "\n02085", 2),
        ("\n2085", "\n+2085", 2),
        ("\n2085", "\n-2085", 2),
        ("\n2085", "\n 2085", 2),
        ("20852163\n", "20852163 \n", 2),
        ("20852163", "18446744073709551616", 2),
        ("20852163", "٢", 2),
        ("20852163\n", "20852163\u{b}\n", 2),
        ("d7I=", "d7I", 3),
        ("d7I=", "d7J=", 3),
        ("d7I=", "d7I==", 3),
        ("d7I=", "d7", 3),
        ("SBNJTRN+", "SBNJTRN-", 3),
        ("SBNJTRN+", "", 3),
        ("SBNJTRN+", "SBNJTRN+AAAA", 3),
        ("time ", "time  ", 4),
        ("time ", "Time ", 4),
        (".000000Z", "Z", 4),
        (".000000Z", ".000000+00:00", 4),
        ("T12:00", " 12:00", 4),
        ("2026-11-23", "2026-11-31", 4),
        ("time 2026-11-23T12:00:00.000000Z\n", "", 4),
        ("\n\n—", "\nmore 1\n\n—", 5),
        ("\n\n—", "\n—", 5),
        ("\n\n—", "\n \n—", 5),
        ("\n\n—", "\n\n\n—", 6),
        ("— ", "—", 6),
        ("— ", "- ", 6),
        ("— ", "—  ", 6),
        ("— lists", "— +lists", 6),
        ("— lists.acme.example/confirmd ", "— ", 6),
        (
            "— lists.acme.example/confirmd ",
            "— lists.acme.example/confirmd  ",
            6,
        ),
        ("\n— ", "\n— a AAAAAA==\n— ", 6),
        ("\n— ", "\n— a AAAAAAB=\n— ", 6),
        ("\n— ", "\n— a AAAAAAA=\n\n— ", 7),
    ];
    let keys = [signer().verifier()];
    for (from, to, at) in edits {
        let changed = note.replacen(from, to, 1);
        assert_ne!(changed, note, "{from:?}");
        let opened = Checkpoint::open(&changed, &keys);
        assert!(
            matches!(opened, Err(NoteError::Malformed { line, .. }) if line == *at),
            "{from:?} as {to:?}: {opened:?}"
        );
    }
    let text = checkpoint().text();
    for (note, at) in [
        (String::new(), 1),
        ("\n".repeat(20), 1),
        (text.clone(), 5),
        (format!("{text}\n"), 6),
        (format!("{text}\n\n"), 6),
        (format!("{text}\n{line}"), 6),
        (format!("{note}\n"), 7),
        (format!("{note}{line}"), 7),
        (format!("{note}{}", "— a AAAAAAA=\n".repeat(100)), 106),
    ] {
        let opened = Checkpoint::open(&note, &keys);
        assert!(
            matches!(opened, Err(NoteError::Malformed { line, .. }) if line == at),
            "{note:?}: {opened:?}"
        );
    }
    let most = format!("{note}{}", "— a AAAAAAA=\n".repeat(99));
    assert_eq!(Checkpoint::open(&most, &keys), Ok(checkpoint()));
    let error = Checkpoint::open(&text, &keys).unwrap_err().to_string();
    assert_eq!(error, "malformed line 5: lines are missing below");
}
