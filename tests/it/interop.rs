//! The trail for those who do not trust this program: other people's code, and a script that an auditor can read, accept what we
//! write and refuse what was changed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use confirmd::domain::consent::Hash;
use confirmd::domain::time::Timestamp;
use confirmd::trail::note::{Checkpoint, NoteError, Signer, Verifier};
use confirmd::trail::tree::{self, Frontier, TileId, Tiles};
use signed_note::{Note, StandardSigner, StandardVerifier, VerifierList};
use tlog_tiles::{HashReader, Tile, TileHashReader, TileReader};

use crate::support::app::both;
use crate::support::daemon::{Home, QUICK};
use crate::support::http::send;
use crate::support::peer::Peer;

const ORIGIN: &str = "lists.acme.example/confirmd";

fn theirs(hash: Hash) -> tlog_tiles::Hash {
    tlog_tiles::Hash(hash.0)
}

fn all_theirs(hashes: &[Hash]) -> Vec<tlog_tiles::Hash> {
    hashes.iter().copied().map(theirs).collect()
}

fn leaf(seq: u64) -> Vec<u8> {
    format!("{{\"seq\":{seq},\"type\":\"signup.created\"}}").into_bytes()
}

fn leaf_hashes(count: u64) -> Vec<Hash> {
    (1..=count).map(|seq| tree::leaf_hash(&leaf(seq))).collect()
}

/// Our tiles, as a log that `tlog_tiles` reads and does not believe.
struct Log(Tiles);

impl TileReader for Log {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        Ok(tiles.iter().map(|tile| self.bytes(tile)).collect())
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

impl Log {
    /// As much of a tile as a smaller tree has.
    fn bytes(&self, tile: &Tile) -> Vec<u8> {
        let hashes = &self.0[&id(tile)][..tile.width() as usize];
        hashes.iter().flat_map(|hash| hash.0).collect()
    }
}

fn id(tile: &Tile) -> TileId {
    TileId {
        level: tile.level(),
        index: tile.level_index(),
    }
}

/// The hashes of a tree that `tlog_tiles` made itself, in its own order.
struct Stored(Vec<tlog_tiles::Hash>);

impl HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|at| self.0[*at as usize]).collect())
    }
}

#[test]
fn tiles_are_those_of_tlog_tiles() {
    const SIZE: u64 = 65_900;
    let leaves = leaf_hashes(SIZE);
    let mut stored = Stored(Vec::new());
    for (at, leaf) in (0..).zip(&leaves) {
        let hashes = tlog_tiles::stored_hashes_for_record_hash(at, theirs(*leaf), &stored);
        stored.0.extend(hashes.expect("hashes"));
    }
    let mut tiles = Tiles::new();
    let mut size = 0;
    for to in [1, 255, 256, 258, 600, 65_535, 65_536, SIZE] {
        let new = &leaves[size as usize..to as usize];
        let changed = tree::append(size, &tiles, new).expect("the edge");
        let expected = Tile::new_tiles(8, size, to);
        assert_eq!(changed.len(), expected.len(), "{size} to {to}");
        for tile in &expected {
            let data = tile.read_data(&stored).expect("a tile");
            let ours = changed[&id(tile)].iter().flat_map(|hash| hash.0);
            assert!(ours.eq(data), "{} at {to}", tile.path());
        }
        tiles.extend(changed);
        let root = tlog_tiles::tree_hash(to, &stored).expect("a root");
        assert!(theirs(tree::root(to, &tiles).expect("the edge")) == root);
        size = to;
    }
}

#[test]
fn proofs_are_those_of_tlog_tiles() {
    let leaves = leaf_hashes(65_900);
    let mut log = Log(tree::append(0, &Tiles::new(), &leaves).expect("a new tree"));
    // Smaller trees are read from the tiles of the largest.
    for size in [
        1, 2, 3, 255, 256, 257, 300, 512, 1000, 65_535, 65_536, 65_900_u64,
    ] {
        let root = tree::root(size, &log.0).expect("the edge");
        let reader = TileHashReader::new(size, theirs(root), &log);
        for other in [1, 2, 129, 256, 257, 40_000, 65_535, size - 1, size] {
            if other == 0 || other > size {
                continue;
            }
            let leaf = theirs(leaves[other as usize - 1]);
            let proof = tree::inclusion(other - 1, size, &log.0).expect("the tiles");
            let proof = all_theirs(&proof);
            assert!(tlog_tiles::prove_record(size, other - 1, &reader).expect("a proof") == proof);
            let check =
                |proof| tlog_tiles::check_record(&proof, size, theirs(root), other - 1, leaf);
            check(proof.clone()).expect("they accept ours");
            assert!(
                spoiled(proof)
                    .into_iter()
                    .all(|proof| check(proof).is_err())
            );

            let old = theirs(tree::root(other, &log.0).expect("the edge"));
            let proof = tree::consistency(other, size, &log.0).expect("the tiles");
            let proof = all_theirs(&proof);
            assert!(tlog_tiles::prove_tree(size, other, &reader).expect("a proof") == proof);
            let check = |proof| tlog_tiles::check_tree(&proof, size, theirs(root), other, old);
            check(proof.clone()).expect("they accept ours");
            assert!(
                spoiled(proof)
                    .into_iter()
                    .all(|proof| check(proof).is_err())
            );
        }
    }
    // It reads the edge only if the root follows from it.
    let root = theirs(tree::root(1000, &log.0).expect("the edge"));
    let prove = |log: &Log| {
        let reader = TileHashReader::new(1000, root, log);
        tlog_tiles::prove_record(1000, 700, &reader).map(drop)
    };
    prove(&log).expect("a proof");
    let tile = TileId { level: 0, index: 3 };
    log.0.get_mut(&tile).expect("a tile")[3].0[31] ^= 1;
    let proved = prove(&log);
    assert!(matches!(proved, Err(tlog_tiles::Error::InconsistentTile)));
}

/// The proof with each hash changed, and longer, and shorter.
fn spoiled(proof: Vec<tlog_tiles::Hash>) -> Vec<Vec<tlog_tiles::Hash>> {
    let mut spoiled = vec![[proof.clone(), vec![tlog_tiles::Hash([0; 32])]].concat()];
    for at in 0..proof.len() {
        let mut changed = proof.clone();
        changed[at].0[at] ^= 1;
        spoiled.extend([changed, proof[..at].to_vec()]);
    }
    spoiled
}

fn seconds(after: u64) -> Timestamp {
    let noon = Timestamp::parse("2026-11-23T12:00:00Z").expect("a time");
    noon + std::time::Duration::from_secs(after)
}

fn signer() -> Signer {
    Signer::new(ORIGIN, &[7; 32]).expect("a key")
}

fn checkpoint(leaves: &[Hash]) -> Checkpoint {
    let mut tree = Frontier::new();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    Checkpoint {
        origin: ORIGIN.to_owned(),
        size: tree.size(),
        root: tree.root(),
        time: seconds(tree.size()),
    }
}

/// What `signed_note` says to a note, when it knows these keys.
fn believed(note: &str, keys: &[Verifier]) -> Option<String> {
    let keys = keys.iter().map(|key| {
        let key = StandardVerifier::new(&key.to_string()).expect("it reads our keys");
        Box::new(key) as Box<dyn signed_note::Verifier>
    });
    let note = Note::from_bytes(note.as_bytes()).ok()?;
    note.verify(&VerifierList::new(keys.collect())).ok()?;
    Some(String::from_utf8(note.text().to_vec()).expect("UTF-8"))
}

#[test]
fn checkpoints_are_those_of_signed_note_and_tlog_tiles() {
    let key = signer().verifier();
    for size in [0, 1, 300] {
        let ours = checkpoint(&leaf_hashes(size));
        let note = ours.sign(&signer());
        let text = believed(&note, std::slice::from_ref(&key)).expect("they open ours");
        assert_eq!(text, ours.text());
        let read = tlog_tiles::Checkpoint::from_bytes(text.as_bytes()).expect("a checkpoint");
        assert_eq!((read.origin(), read.size()), (ORIGIN, size));
        assert!(*read.hash() == theirs(ours.root));
        assert_eq!(read.extension(), format!("time {}\n", ours.time));

        let changed = note.replace("time 2026", "time 2027");
        assert_eq!(believed(&changed, std::slice::from_ref(&key)), None);
        let stranger = Signer::new(ORIGIN, &[8; 32]).expect("a key");
        assert_eq!(believed(&note, &[stranger.verifier()]), None);
    }
}

#[test]
fn notes_of_signed_note_are_opened() {
    let ours = checkpoint(&leaf_hashes(5));
    let key = signer().verifier();
    let sign = |name: &str, seed: u8| {
        let key = Signer::new(name, &[seed; 32]).expect("a key").verifier();
        let id = key.to_string()[name.len() + 1..][..8].to_owned();
        let secret = BASE64.encode([vec![1], vec![seed; 32]].concat());
        StandardSigner::new(&format!("PRIVATE+KEY+{name}+{id}+{secret}"))
            .expect("it reads our keys")
    };
    let mut note = Note::new(ours.text().as_bytes(), &[]).expect("a text");
    note.add_sigs(&[&sign("witness.example", 9), &sign(ORIGIN, 7)])
        .expect("signatures");
    let note = String::from_utf8(note.to_bytes()).expect("UTF-8");
    assert_eq!(
        Checkpoint::open(&note, std::slice::from_ref(&key)),
        Ok(ours.clone())
    );
    // Ed25519 leaves no choice: the same key makes the same signature.
    assert!(ours.sign(&signer()).lines().all(|line| note.contains(line)));

    let other = note.replace("\n5\n", "\n6\n");
    let opened = Checkpoint::open(&other, &[key]);
    assert!(
        matches!(opened, Err(NoteError::BadSignature(_))),
        "{opened:?}"
    );
}

/// An exported trail, line by line.
struct Export {
    lines: Vec<String>,
}

impl Export {
    /// Every third event is somebody else's, so that its reader has the hash only.
    fn new(events: u64, checkpoints: &[u64]) -> Self {
        let hashes = leaf_hashes(events);
        let mut lines = Vec::new();
        for seq in 0..=events {
            match seq {
                0 => {}
                _ if seq % 3 == 0 => lines.push(hash_line(seq, &hashes[seq as usize - 1].0)),
                _ => lines.push(leaf_line(seq, &leaf(seq))),
            }
            if checkpoints.contains(&seq) {
                lines.push(note_line(
                    &checkpoint(&hashes[..seq as usize]).sign(&signer()),
                ));
            }
        }
        Self { lines }
    }

    fn at(&self, says: &str) -> usize {
        let found = self.lines.iter().position(|line| line.contains(says));
        found.unwrap_or_else(|| panic!("{says}"))
    }

    fn event(&self, seq: u64) -> usize {
        self.at(&format!("\"seq\":{seq},"))
    }

    fn note(&self, size: u64) -> usize {
        self.at(&format!("confirmd\\n{size}\\n"))
    }

    fn set(&mut self, at: usize, line: String) {
        self.lines[at] = line;
    }

    /// Writes something else into a line.
    fn edit(&mut self, at: usize, from: &str, to: &str) {
        self.lines[at] = self.lines[at].replace(from, to);
    }

    /// Puts another note into the place of a checkpoint.
    fn replace(&mut self, size: u64, note: &str) {
        let at = self.note(size);
        self.lines[at] = note_line(note);
    }
}

fn leaf_line(seq: u64, leaf: &[u8]) -> String {
    format!("{{\"seq\":{seq},\"leaf\":\"{}\"}}", BASE64.encode(leaf))
}

fn hash_line(seq: u64, hash: &[u8]) -> String {
    format!(
        "{{\"seq\":{seq},\"leaf_hash\":\"{}\"}}",
        BASE64.encode(hash)
    )
}

fn note_line(note: &str) -> String {
    serde_json::json!({ "checkpoint": note }).to_string()
}

/// Runs the script: its exit code, and what it says.
fn verify(lines: &[String], keys: &[Verifier]) -> (i32, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("trail.ndjson");
    std::fs::write(&file, lines.join("\n")).expect("a file");
    let keys: Vec<String> = keys.iter().map(Verifier::to_string).collect();
    let mut arguments = vec![file.to_str().expect("UTF-8")];
    arguments.extend(keys.iter().map(String::as_str));
    python(&arguments)
}

fn python(arguments: &[&str]) -> (i32, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/verify.py");
    let done = Command::new("python3")
        .arg(script)
        .args(arguments)
        .output()
        .expect("python3 is not in PATH: apt-get install python3");
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8(said).expect("UTF-8");
    (
        done.status.code().expect("an exit code"),
        said.trim_end().to_owned(),
    )
}

#[test]
fn the_script_of_the_auditor_finds_an_intact_trail_intact() {
    let keys = [signer().verifier()];
    let export = Export::new(302, &[3, 7, 256, 300]);
    let says = "intact: 302 events, 4 checkpoints, last checkpoint of 300 at 2026-11-23T12:05:00.000000Z, 2 events after it";
    assert_eq!(verify(&export.lines, &keys), (0, says.to_owned()));

    // Every size; an empty trail, too; and every checkpoint is another signature to verify.
    let export = Export::new(70, &(0..=70).collect::<Vec<_>>());
    let says = "intact: 70 events, 71 checkpoints, last checkpoint of 70 at 2026-11-23T12:01:10.000000Z, 0 events after it";
    assert_eq!(verify(&export.lines, &keys), (0, says.to_owned()));

    // A witness below, and keys that signed nothing.
    let witness = Signer::new("witness.example", &[8; 32]).expect("a key");
    let mut export = Export::new(5, &[5]);
    let both = checkpoint(&leaf_hashes(5)).sign(&signer());
    let theirs = checkpoint(&leaf_hashes(5)).sign(&witness);
    let line = theirs.lines().last().expect("a signature");
    export.replace(5, &format!("{both}{line}\n"));
    let old = Signer::new(ORIGIN, &[9; 32]).expect("a key").verifier();
    let known = [old, witness.verifier(), keys[0].clone()];
    for keys in [&keys[..], &known] {
        assert_eq!(verify(&export.lines, keys).0, 0);
    }

    let script = include_str!("../../deploy/verify.py");
    assert!(
        script.lines().count() < 150,
        "nobody reads that in one sitting"
    );
    let imports: BTreeSet<_> = script
        .lines()
        .filter_map(|line| line.strip_prefix("import "))
        .collect();
    let standard = ["base64", "functools", "hashlib", "json", "re", "sys"];
    assert_eq!(imports, BTreeSet::from(standard));
}

/// The checkpoint of the first seven events, on which most of the changes are made.
fn seven() -> Checkpoint {
    checkpoint(&leaf_hashes(7))
}

type Edit = (&'static str, fn(&mut Export));

/// Changes of events, each under what the script says to it; D stands for events that are not those that were signed.
const EVENTS: &[Edit] = &[
    ("between seq 1 and 3: D", |e| e.set(0, leaf_line(1, b""))),
    ("between seq 4 and 7: D", |e| {
        e.set(e.event(5), leaf_line(5, b""))
    }),
    ("between seq 4 and 7: D", |e| {
        e.set(e.event(6), hash_line(6, &[1; 32]))
    }),
    ("at seq 8: D", |e| e.set(e.event(8), leaf_line(8, b""))),
    ("between seq 9 and 300: D", |e| {
        e.set(e.event(9), leaf_line(9, b""))
    }),
    ("between seq 9 and 300: D", |e| {
        e.set(e.event(300), leaf_line(300, b""))
    }),
    ("between seq 4 and 7: D", |e| {
        e.set(e.event(4), leaf_line(4, &leaf(5)));
        e.lines[5] = leaf_line(5, &leaf(4));
    }),
    ("at seq 1: seq 2 stands here", |e| drop(e.lines.remove(0))),
    ("at seq 5: seq 6 stands here", |e| {
        drop(e.lines.remove(e.event(5)))
    }),
    ("at seq 299: a checkpoint of 300 events stands here", |e| {
        drop(e.lines.remove(e.event(300)))
    }),
    ("at seq 4: seq 5 stands here", |e| e.lines.swap(4, 5)),
    ("at seq 6: seq 5 stands here", |e| {
        e.lines.insert(5, e.lines[5].clone())
    }),
    ("at seq 5: seq 5.0 stands here", |e| e.edit(5, "5,", "5.0,")),
    ("at seq 1: seq True stands here", |e| {
        e.edit(0, "1,", "true,")
    }),
    ("at seq 301: a checkpoint of 300 events stands here", |e| {
        e.lines.insert(e.note(300), leaf_line(301, b""))
    }),
    // 31 and 33 bytes side by side hash like twice 32.
    ("at seq 1: its hash is not one", |e| {
        let (one, two) = (tree::leaf_hash(&leaf(1)).0, tree::leaf_hash(&leaf(2)).0);
        e.set(0, hash_line(1, &one[..31]));
        e.set(1, hash_line(2, &[&one[31..], &two].concat()));
    }),
];

/// Changes of checkpoints; B stands for a bad signature, N for none by a given key, M for a malformed note.
const CHECKPOINTS: &[Edit] = &[
    ("at seq 8: a checkpoint of 7 events stands here", |e| {
        let at = e.note(7);
        e.lines.swap(at, at + 1);
    }),
    ("at seq 7: B", |e| {
        let root = BASE64.encode(seven().root.0);
        e.edit(e.note(7), &root, &BASE64.encode([1; 32]));
    }),
    ("at seq 7: B", |e| {
        e.edit(e.note(7), "time 2026", "time 2025")
    }),
    // The key itself signed another history.
    ("between seq 4 and 7: D", |e| {
        let root = Hash::of(b"");
        e.replace(7, &Checkpoint { root, ..seven() }.sign(&signer()));
    }),
    ("at seq 7: N", |e| {
        let key = Signer::new(ORIGIN, &[8; 32]).expect("a key");
        e.replace(7, &seven().sign(&key));
    }),
    ("at seq 7: N", |e| {
        let key = Signer::new("other.example", &[7; 32]).expect("a key");
        e.replace(7, &seven().sign(&key));
    }),
    ("at seq 7: M", |e| e.replace(7, &seven().text())),
    ("at seq 7: M", |e| {
        e.replace(7, &format!("{}\n", seven().text()))
    }),
    ("at seq 7: M", |e| {
        e.replace(7, &format!("\n{}", seven().sign(&signer())))
    }),
    ("at seq 7: M", |e| {
        e.edit(e.note(7), "\\n\\n", "\\nmore\\n\\n")
    }),
    ("at seq 7: M", |e| e.edit(e.note(7), "\\n\\n", "\\n\\n\\n")),
    ("at seq 7: M", |e| e.edit(e.note(7), "\\n7", "\\r\\n7")),
    ("at seq 7: M", |e| e.edit(e.note(7), "\\n7", "\\n07")),
    ("at seq 7: M", |e| e.edit(e.note(7), "\\n7", "\\n+7")),
    ("at seq 7: M", |e| e.edit(e.note(7), "\\n7", "\\n٧")),
    ("at seq 7: M", |e| e.edit(e.note(7), "\\ntime", "\\ntime ")),
    ("at seq 7: M", |e| e.edit(e.note(7), "\\n\"}", "\"}")),
    ("at seq 7: M", |e| e.edit(e.note(7), "\\n\"}", "\\nmore\"}")),
];

#[test]
fn the_script_of_the_auditor_finds_every_change() {
    let keys = [signer().verifier()];
    let good = || Export::new(302, &[3, 7, 8, 300]);
    assert_eq!(verify(&good().lines, &keys).0, 0);
    for (at, (says, edit)) in EVENTS.iter().chain(CHECKPOINTS).enumerate() {
        let mut export = good();
        edit(&mut export);
        assert_ne!(export.lines, good().lines, "{at}: {says}");
        let says = says
            .replace(": D", ": the events are not those that were signed")
            .replace(
                ": B",
                &format!(": the checkpoint has a bad signature by {ORIGIN}"),
            )
            .replace(
                ": N",
                ": the checkpoint is signed by none of the given keys",
            )
            .replace(": M", ": the checkpoint is malformed");
        let said = verify(&export.lines, &keys);
        assert_eq!(said, (1, format!("broken {says}")), "number {at}");
    }

    let stranger = Signer::new(ORIGIN, &[8; 32]).expect("a key").verifier();
    let says = "broken at seq 3: the checkpoint is signed by none of the given keys";
    assert_eq!(verify(&good().lines, &[stranger]), (1, says.to_owned()));

    // A witness is no log, even if its key is given.
    let witness = Signer::new("witness.example", &[8; 32]).expect("a key");
    let mut export = Export::new(7, &[7]);
    export.replace(7, &seven().sign(&witness));
    let known = [keys[0].clone(), witness.verifier()];
    let says = "broken at seq 7: the checkpoint is signed by none of the given keys";
    assert_eq!(verify(&export.lines, &known), (1, says.to_owned()));

    let mut export = good();
    export.lines.retain(|line| !line.contains("checkpoint"));
    let unsigned = "cannot read: no checkpoint: nothing in it is signed";
    for lines in [&export.lines[..], &[]] {
        assert_eq!(verify(lines, &keys), (2, unsigned.to_owned()));
    }
}

#[test]
fn the_script_of_the_auditor_refuses_every_changed_signature() {
    let keys = [signer().verifier()];
    let note = checkpoint(&[]).sign(&signer());
    let (rest, signature) = note.trim_end().rsplit_once(' ').expect("a signature");
    let good = BASE64.decode(signature).expect("base64");
    let with = |bytes: &[u8]| {
        let note = format!("{rest} {}\n", BASE64.encode(bytes));
        let opened = Checkpoint::open(&note, &keys).is_ok();
        let (code, said) = verify(&[note_line(&note)], &keys);
        assert!(code == 0 || said.contains("bad signature"), "{said}");
        assert_eq!(code == 0, opened, "the script and the program differ");
        opened
    };
    assert!(with(&good));
    for at in (4..68).step_by(5) {
        let mut changed = good.clone();
        changed[at] ^= 0x80 >> (at % 8);
        assert!(!with(&changed), "byte {at}");
    }
    assert!(!with(&good[..67]) && !with(&[&good[..], &[0]].concat()));
    // RFC 8032, section 5.1.7: s must be below the order of the group, or one signature would have several forms.
    let order = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let order: Hash = order.parse().expect("32 bytes");
    let (mut twice, mut carry) = (good.clone(), 0);
    for (byte, more) in twice[36..].iter_mut().zip(order.0) {
        let sum = u16::from(*byte) + u16::from(more) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    assert!(!with(&twice));
}

#[test]
fn the_script_of_the_auditor_says_what_it_cannot_read() {
    let key = signer().verifier().to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("trail.ndjson");
    let file = file.to_str().expect("UTF-8");
    let nested = "[".repeat(100_000);
    for (lines, says) in [
        ("\n", "line 1 is not JSON"),
        ("{\"seq\":1,\"leaf\":\"\"}\nseq 2", "line 2 is not JSON"),
        (
            "{\"seq\":1,\"leaf\":\"\",\"leaf\":\"AAAA\"}",
            "line 1 is neither",
        ),
        (
            "{\"seq\":1,\"leaf\":\"\",\"leaf_hash\":\"\"}",
            "line 1 is neither",
        ),
        ("{\"seq\":1}", "line 1 is neither"),
        ("{\"seq\":1,\"leaf\":\"AB==\"}", "base64"),
        ("{\"seq\":1,\"leaf\":\"A A=\"}", "cannot read"),
        ("{\"seq\":1,\"leaf\":7}", "cannot read"),
        ("{\"checkpoint\":7}", "cannot read"),
        ("{\"checkpoint\":\"\",\"seq\":1}", "line 1 is neither"),
        ("[\"checkpoint\"]", "cannot read"),
        ("7", "cannot read"),
        (&nested, "line 1 is not JSON"),
    ] {
        std::fs::write(file, lines).expect("a file");
        let (code, said) = python(&[file, &key]);
        assert!(
            code == 2 && said.contains(says),
            "{lines:.50}: {code} {said}"
        );
        assert!(!said.contains("Traceback"), "{said}");
    }
    std::fs::write(file, b"\xff\xfe").expect("a file");
    assert_eq!(python(&[file, &key]).0, 2);
    assert_eq!(python(&["/nowhere/trail.ndjson", &key]).0, 2);
    let (code, said) = python(&[file]);
    assert!(code == 2 && said.contains("python3 verify.py trail.ndjson VKEY"));
}

#[test]
fn the_script_of_the_auditor_refuses_what_is_no_key() {
    let key = signer().verifier().to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("trail.ndjson");
    std::fs::write(&file, Export::new(1, &[1]).lines.join("\n")).expect("a file");
    let run = |keys: &[&str]| {
        let (code, said) = python(&[&[file.to_str().expect("UTF-8")], keys].concat());
        assert!(!said.contains("Traceback"), "{said}");
        (code, said)
    };
    assert_eq!(run(&[&key]).0, 0);
    // With the right id, whatever they are.
    let vkey = |bytes: &[u8]| {
        let id = Hash::of(&[ORIGIN.as_bytes(), b"\n", bytes].concat()).to_string();
        format!("{ORIGIN}+{}+{}", &id[..8], BASE64.encode(bytes))
    };
    let public = signer().verifier().public_key();
    assert_eq!(vkey(&[&[1], &public[..]].concat()), key);
    for bad in [
        "",
        "a",
        "a+b+c",
        &key[..key.len() - 4],
        &key.replace("lists", "list"),
        &key.replace("confirmd+", "confirmd+0"),
        &vkey(&[]),
        &vkey(&[&[2], &public[..]].concat()),
        &vkey(&[&[1], &public[1..]].concat()),
        &vkey(&[&[1], &public[..], &[0]].concat()),
    ] {
        let (code, said) = run(&[bad, &key]);
        assert!(code == 2 && said.contains("cannot read"), "{bad}: {said}");
    }

    // RFC 8032, section 5.1.3: not on the curve; y beyond the prime; no x has this sign.
    let (mut off, mut beyond, mut sign) = ([0; 32], [0xff; 32], [0; 32]);
    off[0] = 2;
    (beyond[0], beyond[31]) = (0xee, 0x7f);
    (sign[0], sign[31]) = (1, 0x80);
    for bytes in [off, beyond, sign] {
        let key = Verifier::new(ORIGIN, bytes).expect("a name");
        let id = Hash::of(&[ORIGIN.as_bytes(), b"\n\x01", &bytes].concat());
        let line = BASE64.encode([&id.0[..4], &[0; 64]].concat());
        let note = format!("{}\n— {ORIGIN} {line}\n", checkpoint(&[]).text());
        std::fs::write(&file, note_line(&note)).expect("a file");
        let says = "cannot read: not a point of Ed25519";
        assert_eq!(run(&[&key.to_string()]), (2, says.to_owned()));
    }
}

both!(
    what_the_program_exports_is_read_by_the_script_and_by_itself,
    |db| {
        let peer = Peer::start().await;
        let home = Home::new(db, peer.addr(), QUICK);
        let key = home.key("acme", "signup").await;
        let mut daemon = home.start().await;
        for i in 0..5 {
            let email = format!("exported-{i}@example.org");
            assert_eq!(daemon.sign_up(&key, &email, &["weekly"]).await.status, 202);
        }
        home.idle().await;
        let public = send(daemon.addr, "GET", "/.well-known/confirmd", &[], b"").await;
        let public = public.json()["keys"][0]["vkey"]
            .as_str()
            .expect("a key")
            .to_owned();
        daemon.term();
        assert!(daemon.wait().await.success());

        let done = home.run(&["events", "export"]).await;
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(
            !done.stdout.contains("exported-"),
            "an address is in the export"
        );
        let file = home.dir.path().join("trail.ndjson");
        std::fs::write(&file, done.stdout + "\n").expect("a file");
        let file = file.display().to_string();
        let (code, said) = python(&[&file, &public]);
        let events = home.count("select size from trail_head").await;
        assert_eq!(code, 0, "{said}");
        assert!(
            said.starts_with(&format!("intact: {events} events")),
            "{said}"
        );
        let ours = home
            .run(&["audit", "verify", "--file", &file, "--key", &public])
            .await;
        assert_eq!(ours.code, Some(0), "{}", ours.stdout);
        let whole = home.run(&["audit", "verify"]).await;
        assert_eq!(whole.code, Some(0), "{} {}", whole.stdout, whole.stderr);

        // A consent record, by itself.
        let proof = home
            .run(&[
                "subscriber",
                "proof",
                "exported-3@example.org",
                "--sender",
                "acme",
            ])
            .await;
        assert_eq!(proof.code, Some(0), "{}", proof.stderr);
        let record = home.dir.path().join("record.json");
        std::fs::write(&record, &proof.stdout).expect("a file");
        let record = record.display().to_string();
        let check = ["audit", "verify", "--record", &record, "--key", &public];
        let checked = home.run(&check).await;
        assert_eq!(checked.code, Some(0), "{}", checked.stdout);
        assert!(
            checked.stdout.contains("1 mails made again"),
            "{}",
            checked.stdout
        );
        std::fs::write(&record, proof.stdout.replace("weekly news", "weekly newt"))
            .expect("a file");
        let checked = home.run(&check).await;
        assert_eq!(checked.code, Some(1), "{}", checked.stdout);
        assert!(
            checked.stdout.starts_with("broken: record 1: "),
            "{}",
            checked.stdout
        );
    }
);
