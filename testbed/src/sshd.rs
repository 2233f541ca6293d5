//! An OpenSSH server for one test: only SFTP, in a chroot, for another user of the machine.
//!
//! Everything that it needs from the system (a user `alice`, `/run/sshd`, a chroot that belongs to root) is mounted in the mount
//! namespace of this test process, so the system's accounts, keys and server are not touched, and nothing is left.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::Process;
use crate::program::{program, run, sshd};
use crate::{SOON, free_port, namespace, until};

/// The id of the uploading user and of its group, used by no one else.
pub const ALICE: u32 = 47_110;

/// The users that it needs. sshd itself requires an unprivileged user of its own.
const USERS: &str = "\
root:x:0:0::/root:/bin/sh
sshd:x:47111:65534::/run/sshd:/usr/sbin/nologin
nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin
alice:x:47110:47110::/nonexistent:/usr/sbin/nologin
";
const GROUPS: &str = "root:x:0:\nnogroup:x:65534:\nalice:x:47110:\n";
/// No password is valid, and no account is locked.
const PASSWORDS: &str = "root:*:1::::::\nsshd:*:1::::::\nnobody:*:1::::::\nalice:*:1::::::\n";

/// The part of the configuration that `docs/operations.md` recommends, with other paths.
const RECOMMENDED: &str = "\
Match User alice
    AuthorizedKeysFile /run/sftp/keys/%u
    ChrootDirectory /run/sftp/alice
    ForceCommand internal-sftp -d /in -u 0007
    AllowTcpForwarding no
    X11Forwarding no
";

/// An sshd on the loopback address, killed when dropped.
#[derive(Debug)]
pub struct Sshd {
    port: u16,
    // Before the directory, because fields are dropped in this order.
    _process: Process,
    directory: TempDir,
}

impl Sshd {
    /// Starts a server for which `folder` is the `/in` of `alice`.
    ///
    /// Returns `None` and prints the reason if this process may not mount. Then the test must end.
    ///
    /// # Panics
    ///
    /// If OpenSSH is not installed or does not start.
    pub fn start_or_skip(folder: &Path) -> Option<Self> {
        match namespace::enter() {
            Ok(()) => Some(Self::start(folder)),
            Err(reason) => {
                eprintln!("SKIPPED: cannot run an SFTP server with a chroot here: {reason}");
                None
            }
        }
    }

    fn start(folder: &Path) -> Self {
        let directory = TempDir::with_prefix("mysimbdp-sshd-").expect("temporary directory");
        let path = |name: &str| directory.path().join(name);
        for (name, content) in [("passwd", USERS), ("group", GROUPS), ("shadow", PASSWORDS)] {
            fs::write(path(name), content).expect("write");
            mount(&["--bind".as_ref(), path(name).as_ref(), Path::new("/etc").join(name).as_ref()]);
        }
        // Every parent directory of a chroot and of the keys must be writable by root only, which /tmp is not.
        mount(&["-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"].map(Path::new));
        for name in ["sshd", "sftp/alice/in", "sftp/keys"] {
            let made = Path::new("/run").join(name);
            fs::create_dir_all(&made).expect("directory");
            fs::set_permissions(&made, Permissions::from_mode(0o755)).expect("mode");
        }
        mount(&["--bind".as_ref(), folder, "/run/sftp/alice/in".as_ref()]);
        for key in [PathBuf::from("/run/sftp/host"), path("alice")] {
            let mut keygen = Command::new(program("ssh-keygen"));
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
            run(&mut keygen).unwrap_or_else(|error| panic!("{error}"));
        }
        fs::copy(path("alice.pub"), "/run/sftp/keys/alice").expect("a public key");
        let port = free_port();
        // The last line but one is in Debian's configuration: the recommended part overrides it.
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey /run/sftp/host\n\
             PidFile none\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             Subsystem sftp /usr/lib/openssh/sftp-server\n{RECOMMENDED}"
        );
        fs::write(path("sshd_config"), config).expect("write");
        let mut command = Command::new(sshd());
        command.args(["-D", "-E"]).arg(path("log")).arg("-f").arg(path("sshd_config"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Process::spawn(command);
        let log = path("log");
        let logged = || fs::read_to_string(&log).unwrap_or_default();
        until(SOON, "sshd listens", || logged().contains("Server listening on") || !process.is_running());
        assert!(process.is_running(), "sshd has ended: {}", logged());
        Self { port, _process: process, directory }
    }

    /// Starts an `sftp` of `alice` that runs these commands and fails if one of them fails.
    pub fn sftp(&self, options: &[&str], commands: &str) -> Process {
        let batch = tempfile::NamedTempFile::new_in(self.directory.path()).expect("a file");
        fs::write(batch.path(), commands).expect("write");
        let (_, batch) = batch.keep().expect("it is removed with the directory");
        let mut command = Command::new(program("sftp"));
        command.arg("-b").arg(batch).args(options).arg("-i").arg(self.directory.path().join("alice"));
        command.args(["-F", "none", "-P", &self.port.to_string()]);
        for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes"] {
            command.args(["-o", option]);
        }
        let log = fs::File::options().create(true).append(true).open(self.directory.path().join("sftp.log"));
        let log = log.expect("a log");
        command.arg("alice@127.0.0.1").stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file more")).stderr(log);
        Process::spawn(command)
    }

    /// Returns the logs of the server and the clients.
    pub fn log(&self) -> String {
        ["log", "sftp.log"]
            .map(|name| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default())
            .concat()
    }
}

fn mount(arguments: &[&Path]) {
    run(Command::new(program("mount")).args(arguments)).unwrap_or_else(|error| panic!("{error}"));
}
