//! Replacing a private file atomically: a temporary file in the same directory, renamed over it.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

/// Replaces `path` by a file with this content that only its owner can read. The directory is made, for its owner alone,
/// where it is missing; one that is there is left as it is.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.exists() {
        fs::create_dir_all(folder)?;
        restrict(folder, 0o700)?;
    }
    // Removed again wherever one of the next steps fails.
    let mut file = tempfile::Builder::new().prefix(".credentials-").suffix(".tmp").tempfile_in(folder)?;
    restrict(file.path(), 0o600)?;
    file.write_all(content)?;
    // A rename must not outlive a power cut that its content does not.
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Sets the mode, whatever the umask says.
#[cfg(unix)]
fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn restrict(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}
