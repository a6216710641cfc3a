//! An SMTP server that is not ours: Postfix's `smtp-sink`.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use super::mail::Mail;
use super::process::Supervised;

/// Debian's package postfix brings it.
const PROGRAM: &str = "/usr/sbin/smtp-sink";

/// A running `smtp-sink` that writes each mail into a file.
pub struct Sink {
    pub addr: SocketAddr,
    folder: PathBuf,
    _process: Supervised,
}

impl Sink {
    /// Starts it on a free port.
    pub fn start() -> Sink {
        assert!(
            std::path::Path::new(PROGRAM).exists(),
            "no {PROGRAM}: apt-get install postfix"
        );
        // It cannot choose a port itself. Another process may take ours between the asking and the using: ask again.
        (0..10)
            .find_map(|_| Sink::try_start())
            .expect("a free port that stays free")
    }

    fn try_start() -> Option<Sink> {
        let folder = tempfile::Builder::new()
            .prefix("confirmd-sink.")
            .tempdir_in("/tmp")
            .expect("a folder")
            .keep();
        let addr = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port");
        let port = addr.to_string();
        let template = folder.join("mail.").display().to_string();
        let mut words = vec![PROGRAM];
        if std::fs::metadata("/proc/self").expect("/proc").uid() == 0 {
            // Root must name whom to become, and that user must be able to write.
            words.extend(["-u", "nobody"]);
            let open = std::fs::Permissions::from_mode(0o777);
            std::fs::set_permissions(&folder, open).expect("ours");
        }
        words.extend(["-d", &template, &port, "100"]);
        let mut process = Supervised::start(&[], "TERM", &folder, &words, &[]);
        let end = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while TcpStream::connect(addr).is_err() {
            let ended = process.supervisor.try_wait().expect("it can be asked");
            if ended.is_some() || tokio::time::Instant::now() > end {
                return None;
            }
            std::thread::yield_now();
        }
        Some(Sink {
            addr,
            folder,
            _process: process,
        })
    }

    /// Returns every mail with its recipient.
    pub fn mails(&self) -> Vec<(String, Mail)> {
        let files = std::fs::read_dir(&self.folder).expect("the folder is there");
        let mail = |file: std::io::Result<std::fs::DirEntry>| {
            let path = file.expect("a file").path();
            let text = std::fs::read_to_string(path).expect("a mail");
            let to = text
                .lines()
                .find_map(|line| line.strip_prefix("X-Rcpt-Args: <"));
            let to = to.and_then(|to| to.split('>').next()).expect("a recipient");
            let mail = Mail::read(text.replace('\n', "\r\n").as_bytes());
            assert_eq!(mail.header("to"), to);
            (to.to_owned(), mail)
        };
        files.map(mail).collect()
    }
}
