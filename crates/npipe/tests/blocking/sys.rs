//! What the tests of the blocking face need of Win32: to act on a stream's handle as other code of
//! the process may. Knows no test.
#![expect(unsafe_code, reason = "tests play the part of code that does not use the library")]

use std::io;
use std::os::windows::io::{AsRawHandle, IntoRawHandle, OwnedHandle, RawHandle};
use std::ptr;

use npipe::blocking::PipeStream;
use windows_sys::Win32::Storage::FileSystem::ReadFile;
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};

/// `PipeStream::from_raw_handle` of a handle of which there is no duplicate.
pub(crate) fn adopt(handle: OwnedHandle) -> io::Result<PipeStream> {
    // SAFETY: ownership of the handle moves to the library, and nobody else has one.
    unsafe { PipeStream::from_raw_handle(handle.into_raw_handle()) }
}

/// `PipeStream::from_raw_handle` of a handle that this process was started with, of this value.
pub(crate) fn adopt_inherited(handle: usize) -> io::Result<PipeStream> {
    // SAFETY: whoever started the process tells the value of a handle that nobody else here knows.
    unsafe { PipeStream::from_raw_handle(handle as RawHandle) }
}

/// An overlapped read without an event, whose packet goes to the port that the handle is tied to,
/// if any. Its memory is never freed.
pub(crate) fn begin_read_for_ever(pipe: &OwnedHandle) {
    let buffer = Box::leak(Box::new([0_u8; 64]));
    let overlapped = Box::leak(Box::new(OVERLAPPED::default()));
    // SAFETY: the handle is open; buffer and OVERLAPPED live for ever.
    unsafe { ReadFile(pipe.as_raw_handle(), buffer.as_mut_ptr(), 64, ptr::null_mut(), overlapped) };
}

/// Cancels every operation on the handle. Tells whether there was one.
pub(crate) fn cancel_everything(stream: &PipeStream) -> bool {
    // SAFETY: the handle is open for as long as it is borrowed; null stands for all operations.
    unsafe { CancelIoEx(stream.as_raw_handle(), ptr::null()) != 0 }
}

/// Wine exports its version from ntdll; Windows has no such function.
pub(crate) fn runs_under_wine() -> bool {
    let ntdll: Vec<u16> = "ntdll.dll".encode_utf16().chain([0]).collect();
    // SAFETY: the name is NUL-terminated; ntdll is mapped into every process and never unloaded.
    let module = unsafe { GetModuleHandleW(ntdll.as_ptr()) };
    // SAFETY: `module` is ntdll, the name is NUL-terminated.
    unsafe { GetProcAddress(module, c"wine_get_version".as_ptr().cast()) }.is_some()
}
