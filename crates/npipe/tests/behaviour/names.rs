//! How a pipe may be named, and which names are refused before the system is asked.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::windows::ffi::OsStringExt;

use npipe::{ClientOptions, ServerOptions};

use crate::family::{Family, ServerEnd};
use crate::harness::{Within, unique_name};

/// The bare part of a unique name.
fn unique_bare_name() -> String {
    unique_name().trim_start_matches(r"\\.\pipe\").to_owned()
}

/// `create` and `open` by these two names must meet.
async fn assert_same_pipe<F: Family>(server: impl AsRef<OsStr>, client: impl AsRef<OsStr>) {
    let names = format!("{:?} and {:?}", server.as_ref(), client.as_ref());
    let server = F::create(&ServerOptions::new(), server).unwrap_or_else(|error| panic!("{names}: {error}"));
    let _client = F::open(&ClientOptions::new(), client).unwrap_or_else(|error| panic!("{names}: {error}"));
    server.connect().within(&names).await.unwrap();
}

async fn all_spellings_are_the_same_pipe<F: Family>() {
    let spellings: [fn(&str) -> String; 4] = [
        |bare| format!(r"\\.\pipe\{bare}"),
        |bare| format!("//./pipe/{bare}"),
        |bare| format!("npipe:////./pipe/{bare}"),
        |bare| bare.to_owned(),
    ];
    for server in spellings {
        for client in spellings {
            let bare = unique_bare_name();
            assert_same_pipe::<F>(server(&bare), client(&bare)).await;
        }
    }
}

async fn case_does_not_matter<F: Family>() {
    let name = unique_name();
    assert_same_pipe::<F>(&name, name.to_uppercase()).await;
}

async fn unusual_characters<F: Family>() {
    for suffix in
        ["ünïcödé-日本-🦀", "with space", "{braces}", "a.b-c_d", r"inner\backslash", "%20", "#?&*\""]
    {
        let name = format!("{}-{suffix}", unique_name());
        assert_same_pipe::<F>(&name, &name).await;
    }
}

/// A name is UTF-16 to the system; it need not be valid.
async fn unpaired_surrogate<F: Family>() {
    let units: Vec<u16> = unique_name().encode_utf16().chain([0xD800, u16::from(b'x')]).collect();
    let name = OsString::from_wide(&units);
    assert_same_pipe::<F>(&name, &name).await;
}

async fn any_string_type_is_a_name<F: Family>() {
    let name = unique_name();
    let server = F::create(&ServerOptions::new(), OsStr::new(&name)).unwrap();
    let _client = F::open(&ClientOptions::new(), std::path::Path::new(&name)).unwrap();
    server.connect().within("connect").await.unwrap();
}

/// 256 characters in all, with the prefix the system wants.
async fn longest_name<F: Family>() {
    let mut name = unique_name();
    name.extend(std::iter::repeat_n('x', 256 - name.len()));
    assert_same_pipe::<F>(&name, &name).await;
    let bare = name.trim_start_matches(r"\\.\pipe\");
    assert_same_pipe::<F>(bare, &name).await;
}

async fn bad_names_are_invalid_input<F: Family>() {
    let too_long = format!(r"\\.\pipe\{}", "x".repeat(257 - r"\\.\pipe\".len()));
    let bare_too_long = "x".repeat(257 - r"\\.\pipe\".len());
    let far_too_long = "x".repeat(100_000);
    for name in [
        "",
        r"\\.\pipe\",
        "//./pipe/",
        "npipe:////./pipe/",
        "embedded\0nul",
        "\\\\.\\pipe\\trailing\0",
        "\\\\.\\pipe\\\0leading",
        &too_long,
        &bare_too_long,
        &far_too_long,
    ] {
        let shown: String = name.chars().take(40).collect();
        let error = F::create(&ServerOptions::new(), name).expect_err("a server by a bad name");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "create({shown:?}): {error:?}");
        assert_eq!(error.raw_os_error(), None, "create({shown:?}): the system was asked: {error:?}");
        let error = F::open(&ClientOptions::new(), name).expect_err("a client by a bad name");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "open({shown:?}): {error:?}");
        assert_eq!(error.raw_os_error(), None, "open({shown:?}): the system was asked: {error:?}");
        assert!(!error.to_string().is_empty());
    }
}

/// A name cut off at an embedded NUL would be another pipe.
async fn embedded_nul_does_not_reach_the_pipe_before_it<F: Family>() {
    let name = unique_name();
    let _server = F::create(&ServerOptions::new(), &name).unwrap();
    assert!(F::open(&ClientOptions::new(), format!("{name}\0.txt")).is_err());
}

/// A client is not what any path gives: a file of that name is not opened as a pipe.
async fn files_are_not_opened_by_their_paths<F: Family>() {
    for name in [r"C:\windows\system.ini", r"\\?\C:\windows\system.ini", r"\\.\C:", r"\\.\NUL", "npipe://"] {
        assert!(F::open(ClientOptions::new().write(false), name).is_err(), "{name} was opened as a pipe");
    }
}

/// Windows resolves `..`, so such a name would open the file behind it.
async fn files_are_not_opened_through_dots<F: Family>() {
    let directory = std::env::temp_dir().join(unique_bare_name());
    std::fs::create_dir(&directory).unwrap();
    let file = directory.join("file.txt");
    std::fs::write(&file, b"untouched").unwrap();
    let path = file.to_str().unwrap();
    for name in [
        format!(r"..\{path}"),
        format!("../{}", path.replace('\\', "/")),
        format!(r"a\..\..\{path}"),
        format!(r"\\.\pipe\..\{path}"),
        format!(r"\\.\pipe\a\..\..\{path}"),
        format!("//./pipe/../{}", path.replace('\\', "/")),
        format!("npipe:////./pipe/../{path}"),
        format!(r"\\?\pipe\..\{path}"),
    ] {
        for options in [ClientOptions::new(), ClientOptions::new().write(false).clone()] {
            let error = F::open(&options, &name).expect_err(&name);
            assert_eq!((error.kind(), error.raw_os_error()), (io::ErrorKind::InvalidInput, None), "{name}");
        }
        let error = F::create(&ServerOptions::new(), &name).expect_err(&name);
        assert_eq!((error.kind(), error.raw_os_error()), (io::ErrorKind::InvalidInput, None), "{name}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"untouched");
    std::fs::remove_dir_all(&directory).unwrap();
}

/// No pipe comes of the path of something else.
async fn no_pipe_is_created_outside_the_pipes<F: Family>() {
    for name in [r"\\?\C:\windows\npipe", r"\\.\C:", r"\\.\pipe"] {
        assert!(F::create(&ServerOptions::new(), name).is_err(), "{name} was created as a pipe");
    }
}

for_each_family!(
    all_spellings_are_the_same_pipe,
    case_does_not_matter,
    unusual_characters,
    unpaired_surrogate,
    any_string_type_is_a_name,
    longest_name,
    bad_names_are_invalid_input,
    embedded_nul_does_not_reach_the_pipe_before_it,
    files_are_not_opened_by_their_paths,
    files_are_not_opened_through_dots,
    no_pipe_is_created_outside_the_pipes,
);
