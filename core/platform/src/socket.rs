//! Unix sockets, through which processes on the same host reach one another.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// A socket operation has failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct SocketError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl SocketError {
    /// Whether no process listens there.
    pub fn is_not_listening(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    }

    pub fn is_permission_denied(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }
}

/// A socket that listens; its file is removed when it is dropped, unless another listener has replaced it.
#[derive(Debug)]
pub struct SocketListener {
    listener: UnixListener,
    path: PathBuf,
    /// Identifies the file.
    inode: u64,
}

impl SocketListener {
    /// Listens on `path`, where only this user can connect. Replaces what is at `path`: call it only while holding the lock
    /// that makes this process the only listener.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let error = |source| SocketError { action: "listen on", path: path.to_owned(), source };
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error(source)),
            _ => {}
        }
        let (_directory, short) = short_path(path).map_err(error)?;
        let listener = UnixListener::bind(short).map_err(error)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(error)?;
        let inode = std::fs::symlink_metadata(path).map_err(error)?.ino();
        Ok(Self { listener, path: path.to_owned(), inode })
    }

    /// Waits for the next connection.
    pub async fn accept(&self) -> Result<UnixStream, SocketError> {
        let accepted = self.listener.accept().await;
        let error = |source| SocketError { action: "accept on", path: self.path.clone(), source };
        accepted.map(|(stream, _)| stream).map_err(error)
    }
}

impl Drop for SocketListener {
    fn drop(&mut self) {
        // Only tidiness: the next listener replaces it, and may have done so already.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Connects to the process that listens on `path`.
pub async fn connect(path: &Path) -> Result<UnixStream, SocketError> {
    let error = |source| SocketError { action: "connect to", path: path.to_owned(), source };
    let (_directory, short) = short_path(path).map_err(error)?;
    UnixStream::connect(short).await.map_err(error)
}

/// A short path to the same file, valid while the returned directory is open: the kernel allows at most 107 bytes for the path
/// of a socket, and a data root may have a longer one.
fn short_path(path: &Path) -> io::Result<(File, PathBuf)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = File::open(parent)?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok((directory, short))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_socket_works_in_a_deep_directory_and_replaces_a_stale_file() {
        let root = tempfile::tempdir().expect("temporary directory");
        let deep = root.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).expect("directories");
        let path = deep.join("manager.sock");
        assert!(connect(&path).await.expect_err("nobody listens").is_not_listening());

        std::fs::write(&path, "").expect("something in its place");
        let listener = SocketListener::bind(&path).expect("bind");
        assert_eq!(std::fs::metadata(&path).expect("socket").permissions().mode() & 0o777, 0o600);
        let (accepted, connected) = tokio::join!(listener.accept(), connect(&path));
        let (mut ours, mut theirs) = (accepted.expect("accept"), connected.expect("connect"));
        theirs.write_all(b"x").await.expect("write");
        assert_eq!(ours.read_u8().await.expect("read"), b'x');
        let next = SocketListener::bind(&path).expect("bind again");
        drop(listener);
        assert!(connect(&path).await.is_ok(), "the next one still listens");
        drop(next);
        assert!(connect(&path).await.expect_err("nobody listens now").is_not_listening());
    }
}
