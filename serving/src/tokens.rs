//! The tokens that requests must bear, and what each of them allows.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mysimbdp_model::client::ClientId;
use mysimbdp_model::error_chain;
use mysimbdp_model::layout::Layout;
use mysimbdp_model::process_kind::ProcessKind;
use mysimbdp_platform::files::{self, FileError, Metadata};
use mysimbdp_platform::notice::NoticeFile;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// How often it is checked whether the file has changed.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Some thousand tokens.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Right {
    /// See files, records, objects and streams.
    Read,
    /// Drop files.
    Drop,
    /// Retry files; start, stop and scale streams.
    Operate,
}

/// Who sends a request, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The name of its token; `None` if none is required.
    name: Option<String>,
    /// `None`: all clients.
    client: Option<ClientId>,
    rights: Vec<Right>,
}

/// The tokens of the file, which is read again when it has changed.
#[derive(Debug)]
pub(crate) struct Tokens {
    path: PathBuf,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    tokens: Arc<[Token]>,
    metadata: Metadata,
    checked: Instant,
    /// Why the file cannot be used; it has been logged.
    reported: Option<String>,
    /// Shows it in the status.
    notice: NoticeFile,
}

#[derive(Debug)]
struct Token {
    sha256: [u8; 32],
    caller: Caller,
}

/// The file, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensFile {
    tokens: Vec<WrittenToken>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenToken {
    name: String,
    sha256: String,
    #[serde(default)]
    client: Option<ClientId>,
    rights: Vec<Right>,
}

/// The file with the tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "{path} belongs to another user, or can be accessed by others: expected a file of the platform's user with mode 0600"
    )]
    Open { path: String },
    #[error("{path} is not a regular file of at most {FILE_BYTES_MAX} bytes")]
    Kind { path: String },
    #[error("token {name:?} in {path} has the same sha256 as an earlier one")]
    Repeated { path: String, name: String },
    #[error(
        "cannot parse {path}: expected {{\"tokens\": [{{\"name\": …, \"sha256\": …, \"client\": …, \"rights\": [\"read\", \"drop\", \"operate\"]}}]}}"
    )]
    Json {
        path: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("invalid sha256 of token {name:?} in {path}: expected 64 hexadecimal digits")]
    Hash { path: String, name: String },
}

impl Caller {
    /// Somebody who needs no token.
    pub(crate) fn anyone() -> Self {
        Self { name: None, client: None, rights: vec![Right::Read, Right::Drop, Right::Operate] }
    }

    /// Whether it may do this for all clients.
    pub(crate) fn may_for_all(&self, right: Right) -> bool {
        self.client.is_none() && self.rights.contains(&right)
    }

    /// Whether it may do this for this client.
    pub(crate) fn may(&self, right: Right, client: &ClientId) -> bool {
        self.client.as_ref().is_none_or(|own| own == client) && self.rights.contains(&right)
    }

    /// Whether it may do this for some client.
    pub(crate) fn may_for_some(&self, right: Right) -> bool {
        self.rights.contains(&right)
    }

    pub(crate) fn rights(&self) -> &[Right] {
        &self.rights
    }

    /// The name of its token; `None` if none is required.
    pub(crate) fn token_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The only client that it may deal with; `None` if it may deal with all of them.
    pub(crate) fn only_client(&self) -> Option<&ClientId> {
        self.client.as_ref()
    }
}

impl Tokens {
    /// # Errors
    ///
    /// The file cannot be read, is open to others, or is not a list of tokens.
    pub(crate) fn read(path: &Path, layout: &Layout) -> Result<Self, TokensError> {
        let (tokens, metadata) = read(path)?;
        let notice = NoticeFile::new(layout, ProcessKind::Serve.name(), "tokens");
        let current = Current { tokens, metadata, checked: Instant::now(), reported: None, notice };
        Ok(Self { path: path.to_owned(), current: Mutex::new(current) })
    }

    /// The caller whose token this is.
    pub(crate) fn caller(&self, token: &str) -> Option<Caller> {
        let hash = Sha256::digest(token.as_bytes());
        let tokens = self.current();
        // All of them are compared, so that the time does not tell which one was nearly right.
        let mut found = None;
        for token in tokens.iter() {
            if bool::from(token.sha256.as_slice().ct_eq(hash.as_slice())) {
                found = Some(&token.caller);
            }
        }
        found.cloned()
    }

    /// The tokens that are valid now. While the file cannot be used, these are the ones that were valid before.
    fn current(&self) -> Arc<[Token]> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.checked.elapsed() >= CHECK_EVERY {
            current.checked = Instant::now();
            let is_unchanged =
                files::metadata(&self.path).is_ok_and(|now| files::unchanged(&now, &current.metadata));
            if !is_unchanged {
                match read(&self.path) {
                    Ok((tokens, metadata)) => {
                        tracing::info!(path = %self.path.display(), count = tokens.len(), "tokens read again");
                        (current.tokens, current.metadata, current.reported) = (tokens, metadata, None);
                        current.notice.show(None);
                    }
                    Err(error) => {
                        let error = error_chain(&error);
                        if current.reported.as_ref() != Some(&error) {
                            tracing::warn!(error, "cannot read the tokens, the earlier ones stay valid");
                        }
                        let text =
                            format!("an edit of the tokens is refused, the earlier ones stay valid: {error}");
                        current.notice.show(Some(text));
                        current.reported = Some(error);
                    }
                }
            }
        }
        Arc::clone(&current.tokens)
    }
}

fn read(path: &Path) -> Result<(Arc<[Token]>, Metadata), TokensError> {
    let shown = || path.display().to_string();
    let (content, metadata) = read_private(path)?;
    let written: TokensFile =
        serde_json::from_slice(&content).map_err(|source| TokensError::Json { path: shown(), source })?;
    let mut tokens: Vec<Token> = Vec::new();
    for WrittenToken { name, sha256, client, rights } in written.tokens {
        let Some(sha256) = hash(&sha256) else { return Err(TokensError::Hash { path: shown(), name }) };
        if tokens.iter().any(|token| token.sha256 == sha256) {
            return Err(TokensError::Repeated { path: shown(), name });
        }
        tokens.push(Token { sha256, caller: Caller { name: Some(name), client, rights } });
    }
    Ok((tokens.into(), metadata))
}

/// Reads a file that nobody but this user and root can have written. Anything but a regular file is not waited for.
fn read_private(path: &Path) -> Result<(Vec<u8>, Metadata), TokensError> {
    let shown = || path.display().to_string();
    let file = files::open(path)?;
    let metadata =
        file.metadata().map_err(|source| FileError { action: "read", path: path.to_owned(), source })?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(TokensError::Kind { path: shown() });
    }
    if !files::is_private(&metadata) {
        return Err(TokensError::Open { path: shown() });
    }
    let mut content = vec![0; FILE_BYTES_MAX as usize];
    let count = files::read_at(&file, path, &mut content, 0)?;
    content.truncate(count);
    Ok((content, metadata))
}

fn hash(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, position) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[position..position + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of `secret`.
    const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("temporary directory");
        let path = folder.path().join("tokens.json");
        files::write_atomic(&path, content.as_bytes()).expect("written");
        mysimbdp_platform::modes::close_path_to_others(&path);
        (folder, path)
    }

    #[test]
    fn a_token_allows_what_its_entry_says() {
        let content = format!(
            r#"{{"tokens": [{{"name": "a", "sha256": "{HASH}", "client": "client1", "rights": ["read"]}}]}}"#
        );
        let (_folder, path) = file(&content);
        let tokens = Tokens::read(&path, &Layout::new(path.parent().expect("a folder"))).expect("tokens");
        assert_eq!(tokens.caller("Secret"), None);
        let caller = tokens.caller("secret").expect("a caller");
        let client = |id: &str| id.parse::<ClientId>().expect("valid");
        assert!(caller.may(Right::Read, &client("client1")));
        assert!(!caller.may(Right::Read, &client("client2")) && !caller.may(Right::Drop, &client("client1")));
        assert!(!caller.may_for_all(Right::Read) && caller.may_for_some(Right::Read));
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_with_what_is_expected() {
        for (content, expected) in [
            ("[]", "expected {\"tokens\""),
            (r#"{"tokens": [{"name": "a", "sha256": "00", "rights": []}]}"#, "64 hexadecimal digits"),
            (r#"{"tokens": [{"name": "a", "sha256": "00", "rights": ["write"]}]}"#, "`operate`"),
            (r#"{"tokens": [{"name": "a", "sha256": "00", "rights": [], "user": 1}]}"#, "`user`"),
        ] {
            let (_folder, path) = file(content);
            let error = error_chain(
                &Tokens::read(&path, &Layout::new(path.parent().expect("a folder"))).expect_err(content),
            );
            assert!(error.contains(expected), "{content}: {error}");
        }
    }
}
