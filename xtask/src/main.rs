//! xtask
#[cfg(feature = "proto")]
mod proto;
fn main() {
    #[cfg(feature = "proto")]
    {
        let root = std::path::Path::new(".");
        if let Err(e) = proto::compile(root, &proto::checked_in(root)) {
            eprintln!("{e}");
            std::process::exit(1)
        }
    }
}
