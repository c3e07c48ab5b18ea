//! The one condition by which tests are skipped: that the Windows they run on is Wine.

use std::io::Write;
use std::path::Path;

/// To be called first by a test that Wine cannot show. A run collects the lines.
pub(crate) fn skipped_under_wine(test: &str, reason: &str) -> bool {
    // Wine's own settings program, which every prefix has and no Windows.
    let wine = Path::new(r"C:\windows\system32\winecfg.exe").exists();
    if wine {
        // Not `println!`: libtest keeps the output of tests that pass to itself.
        let _ = writeln!(std::io::stdout(), "skipped-under-wine: {test}: {reason}");
    }
    wine
}
