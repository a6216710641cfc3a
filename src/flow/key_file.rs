//! The files of keys: `<purpose>-<id>.key` with 32 random bytes in base64url, for the eyes of the service's user alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use zeroize::Zeroizing;

use super::keyring::KeyringError;
use crate::clock::random;
use crate::domain::consent::Hash;
use crate::domain::time::Timestamp;
use crate::store::keyring::{Purpose, Registered};

/// Reads the file of a registered key.
pub(super) fn read(dir: &Path, key: &Registered) -> Result<Zeroizing<[u8; 32]>, KeyringError> {
    let path = path(dir, key.purpose, &key.id);
    let name = || path.display().to_string();
    let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => KeyringError::Missing(name()),
        _ => cannot(&path, &error),
    })?;
    let text = Zeroizing::new(text);
    let mode = fs::metadata(&path)
        .map_err(|error| cannot(&path, &error))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(KeyringError::Exposed {
            path: name(),
            mode: mode & 0o777,
        });
    }
    let mut secret = Zeroizing::new([0; 32]);
    match BASE64.decode_slice(text.trim_end(), secret.as_mut_slice()) {
        Ok(32) => {}
        _ => return Err(KeyringError::Malformed(name())),
    }
    if fingerprint(&secret) != key.fingerprint {
        return Err(KeyringError::Changed(name()));
    }
    Ok(secret)
}

/// The user and the group of a file.
pub(super) type Owner = (u32, u32);

/// Returns whose the file of a registered key is.
pub(super) fn owner(dir: &Path, key: &Registered) -> Result<Owner, KeyringError> {
    read(dir, key)?;
    let path = path(dir, key.purpose, &key.id);
    let file = fs::metadata(&path).map_err(|error| cannot(&path, &error))?;
    Ok((file.uid(), file.gid()))
}

/// Makes a key and its file; root gives it to its owner, who could not read it otherwise.
pub(super) fn make(
    dir: &Path,
    purpose: Purpose,
    state: &str,
    now: Timestamp,
    owner: Option<Owner>,
) -> Result<Registered, KeyringError> {
    let secret = Zeroizing::new(random::<32>());
    let id = format!("{:08x}", u32::from_be_bytes(random()));
    let path = path(dir, purpose, &id);
    let text = Zeroizing::new(format!("{}\n", BASE64.encode(*secret)));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        if let Some((user, group)) = owner
            && file.metadata()?.uid() != user
        {
            fchown(&file, Some(user), Some(group)).map_err(|error| {
                // There is nothing in it yet.
                let _ = fs::remove_file(&path);
                let why = format!("cannot be given to the user {user}, whose keys these are ({error}); run it as that user");
                io::Error::other(why)
            })?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // The name must survive a power cut as well as the content.
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| cannot(&path, &error))?;
    Ok(Registered {
        id,
        purpose,
        state: state.to_owned(),
        fingerprint: fingerprint(&secret),
        created_at: now,
    })
}

/// Refuses a folder that holds keys: where none is registered, the database that they belong to is another one.
///
/// # Errors
/// [`KeyringError::Stray`], or when the folder cannot be read.
pub fn refuse_stray(dir: &Path) -> Result<(), KeyringError> {
    let files = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        files => files.map_err(|error| cannot(dir, &error))?,
    };
    for file in files {
        let path = file.map_err(|error| cannot(dir, &error))?.path();
        if path.extension().is_some_and(|end| end == "key") {
            return Err(KeyringError::Stray(path.display().to_string()));
        }
    }
    Ok(())
}

/// Makes the folder.
pub(super) fn make_dir(dir: &Path) -> Result<(), KeyringError> {
    fs::create_dir_all(dir).map_err(|error| cannot(dir, &error))
}

fn path(dir: &Path, purpose: Purpose, id: &str) -> PathBuf {
    dir.join(format!("{}-{id}.key", purpose.as_str()))
}

fn fingerprint(secret: &[u8; 32]) -> Vec<u8> {
    let mut labelled = b"confirmd key fingerprint v1".to_vec();
    labelled.extend_from_slice(secret);
    Hash::of(&labelled).0[..16].to_vec()
}

fn cannot(path: &Path, error: &io::Error) -> KeyringError {
    KeyringError::File {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}
