//! What can be wrong with templates, in words for the operator who changed one.

use std::path::PathBuf;

/// A template, a catalog or the folder that overrides them cannot be used.
///
/// Holds no value of any context: a context has links in it.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The override folder, or a file in it, cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The override folder holds a file that overrides nothing.
    #[error("{0} is no template: remove it, or give it the name of the template that it replaces")]
    UnknownFile(String),
    /// A file cannot be compiled or rendered.
    #[error("{file}, line {line}: {reason}")]
    Broken {
        /// The file, relative to the folder.
        file: String,
        /// The line, counted from 1; 0 where it is not known.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A catalog and the English one do not fit.
    #[error("{file}, text {key}: {reason}")]
    Catalog {
        /// The catalog.
        file: String,
        /// The text in it.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A mail template leaves out what a mail must show, or holds what no mail may.
    #[error("{file}: {reason}")]
    Unfit {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What was kept of an earlier mail is not what was written.
    #[error("the kept templates of a mail cannot be read: {0}")]
    Kept(serde_json::Error),
}

impl TemplateError {
    /// Takes what the engine says, without the values that it saw.
    pub(super) fn engine(file: &str, error: &minijinja::Error) -> Self {
        let reason = match error.detail() {
            Some(detail) => format!("{}: {detail}", error.kind()),
            None => error.kind().to_string(),
        };
        TemplateError::Broken {
            file: error.name().unwrap_or(file).to_owned(),
            line: error.line().unwrap_or(0),
            reason,
        }
    }
}
