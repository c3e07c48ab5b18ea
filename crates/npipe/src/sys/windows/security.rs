//! Security descriptors as bytes and as text, and the names of accounts.

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;
use std::slice;
use std::sync::Arc;

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Globalization::lstrlenW;
use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW,
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo, SDDL_REVISION_1, SE_KERNEL_OBJECT,
};
use windows_sys::Win32::Security::{
    DACL_SECURITY_INFORMATION, GROUP_SECURITY_INFORMATION, GetSecurityDescriptorControl,
    GetSecurityDescriptorLength, LABEL_SECURITY_INFORMATION, LookupAccountNameW, LookupAccountSidW,
    OWNER_SECURITY_INFORMATION, SACL_SECURITY_INFORMATION, SE_SELF_RELATIVE, SetKernelObjectSecurity,
};

/// What a handle that may read the descriptor may read of it: the audit list is a privilege of its
/// own.
const READABLE: u32 = OWNER_SECURITY_INFORMATION
    | GROUP_SECURITY_INFORMATION
    | DACL_SECURITY_INFORMATION
    | LABEL_SECURITY_INFORMATION;

/// A self-relative security descriptor that the system made: valid, whole, and aligned as it wants
/// them.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor(Arc<[u32]>);

impl Descriptor {
    pub(super) fn as_ptr(&self) -> *const c_void {
        self.0.as_ptr().cast()
    }

    /// Copies what the system allocated. One that is not self-relative would have parts elsewhere,
    /// and is refused; no call here is known to give one.
    fn copy(allocated: &Allocated) -> io::Result<Self> {
        let (mut control, mut revision) = (0, 0);
        // SAFETY: the system has just made the descriptor, and it is not freed before `allocated` is
        // dropped.
        let done = unsafe { GetSecurityDescriptorControl(allocated.0, &mut control, &mut revision) };
        if done == 0 {
            return Err(io::Error::last_os_error());
        }
        if control & SE_SELF_RELATIVE == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: as above.
        let length = unsafe { GetSecurityDescriptorLength(allocated.0) } as usize;
        let mut words = vec![0_u32; length.div_ceil(size_of::<u32>())];
        // SAFETY: the descriptor is self-relative, so all of it is in the `length` bytes, for which there
        // is room.
        unsafe { ptr::copy_nonoverlapping(allocated.0.cast::<u8>(), words.as_mut_ptr().cast(), length) };
        Ok(Self(words.into()))
    }

    /// The descriptor, and up to three bytes of zero behind it.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: words are initialised bytes, as many as are named, and borrowed for as long as `self`.
        unsafe { slice::from_raw_parts(self.0.as_ptr().cast(), size_of_val(&*self.0)) }
    }
}

/// What the system allocated for the caller.
struct Allocated(*mut c_void);

impl Drop for Allocated {
    fn drop(&mut self) {
        // SAFETY: null, or allocated by a call that says to free it with this one; nobody has it any more.
        unsafe { LocalFree(self.0) };
    }
}

/// [`ConvertStringSecurityDescriptorToSecurityDescriptorW`](https://learn.microsoft.com/windows/win32/api/sddl/nf-sddl-convertstringsecuritydescriptortosecuritydescriptorw).
pub(crate) fn descriptor_from_sddl(sddl: &str) -> io::Result<Descriptor> {
    let sddl: Vec<u16> = sddl.encode_utf16().chain([0]).collect();
    let mut allocated = Allocated(ptr::null_mut());
    // SAFETY: the text ends with a NUL; null asks for no length.
    let done = unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            sddl.as_ptr(),
            SDDL_REVISION_1,
            &mut allocated.0,
            ptr::null_mut(),
        )
    };
    if done == 0 { Err(io::Error::last_os_error()) } else { Descriptor::copy(&allocated) }
}

/// [`ConvertSecurityDescriptorToStringSecurityDescriptorW`](https://learn.microsoft.com/windows/win32/api/sddl/nf-sddl-convertsecuritydescriptortostringsecuritydescriptorw).
pub(crate) fn descriptor_to_sddl(descriptor: &Descriptor) -> io::Result<String> {
    let mut allocated = Allocated(ptr::null_mut());
    // SAFETY: the descriptor is valid, as its type says, and only read; null asks for no length.
    let done = unsafe {
        ConvertSecurityDescriptorToStringSecurityDescriptorW(
            descriptor.as_ptr().cast_mut(),
            SDDL_REVISION_1,
            READABLE | SACL_SECURITY_INFORMATION,
            (&raw mut allocated.0).cast(),
            ptr::null_mut(),
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    let text: *const u16 = allocated.0.cast();
    // SAFETY: the system has written a text that ends with a NUL.
    let length = unsafe { lstrlenW(text) } as usize;
    // SAFETY: as many characters are there.
    Ok(String::from_utf16_lossy(unsafe { slice::from_raw_parts(text, length) }))
}

/// [`GetSecurityInfo`](https://learn.microsoft.com/windows/win32/api/aclapi/nf-aclapi-getsecurityinfo) of a pipe: owner,
/// group, access list and integrity label.
pub(crate) fn descriptor_of(handle: &OwnedHandle) -> io::Result<Descriptor> {
    let mut allocated = Allocated(ptr::null_mut());
    // SAFETY: the handle is open for the call; null asks for no part by itself.
    let code = unsafe {
        GetSecurityInfo(
            handle.as_raw_handle(),
            SE_KERNEL_OBJECT,
            READABLE,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            &mut allocated.0,
        )
    };
    if code == 0 { Descriptor::copy(&allocated) } else { Err(io::Error::from_raw_os_error(code as i32)) }
}

/// Parts of a descriptor.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DescriptorParts {
    pub(crate) owner: bool,
    pub(crate) group: bool,
    pub(crate) access_list: bool,
    pub(crate) label: bool,
    pub(crate) audits: bool,
}

/// [`SetKernelObjectSecurity`](https://learn.microsoft.com/windows/win32/api/securitybaseapi/nf-securitybaseapi-setkernelobjectsecurity)
/// of a pipe: these parts of the descriptor.
pub(crate) fn set_descriptor(
    handle: &OwnedHandle,
    descriptor: &Descriptor,
    parts: DescriptorParts,
) -> io::Result<()> {
    let flag = |wanted: bool, flag: u32| if wanted { flag } else { 0 };
    let information = flag(parts.owner, OWNER_SECURITY_INFORMATION)
        | flag(parts.group, GROUP_SECURITY_INFORMATION)
        | flag(parts.access_list, DACL_SECURITY_INFORMATION)
        | flag(parts.label, LABEL_SECURITY_INFORMATION)
        | flag(parts.audits, SACL_SECURITY_INFORMATION);
    // SAFETY: the handle is open for the call; the descriptor is valid, as its type says, and only
    // read.
    let done = unsafe {
        SetKernelObjectSecurity(handle.as_raw_handle(), information, descriptor.as_ptr().cast_mut())
    };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The bytes of a security identifier, aligned as the system wants them. One that is too long is
/// cut short, and nobody's: 15 numbers are all that one has.
pub(super) fn encode_sid(authority: u64, sub_authorities: &[u32]) -> [u32; 2 + 15] {
    let mut sid = [0; 2 + 15];
    let numbers = sub_authorities.len().min(15);
    let [_, _, authority @ ..] = authority.to_be_bytes();
    let [a, b, rest @ ..] = authority;
    sid[0] = u32::from_ne_bytes([1, numbers as u8, a, b]);
    sid[1] = u32::from_ne_bytes(rest);
    sid[2..2 + numbers].copy_from_slice(&sub_authorities[..numbers]);
    sid
}

/// [`LookupAccountNameW`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-lookupaccountnamew):
/// the bytes of a security identifier, and zeros behind them.
pub(crate) fn sid_of_account(name: &str) -> io::Result<Vec<u8>> {
    const UNITS: usize = 512;
    let name: Vec<u16> = name.encode_utf16().chain([0]).collect();
    let mut sid = [0_u32; 2 + 15];
    let mut sid_length = size_of_val(&sid) as u32;
    let mut domain = [0_u16; UNITS];
    let mut domain_length = UNITS as u32;
    let mut account_type = 0;
    // SAFETY: the name ends with a NUL; both buffers are writable for as many bytes and units as are
    // named.
    let done = unsafe {
        LookupAccountNameW(
            ptr::null(),
            name.as_ptr(),
            sid.as_mut_ptr().cast(),
            &mut sid_length,
            domain.as_mut_ptr(),
            &mut domain_length,
            &mut account_type,
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(sid.iter().flat_map(|word| word.to_ne_bytes()).collect())
}

/// [`LookupAccountSidW`](https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-lookupaccountsidw): `DOMAIN\NAME`.
pub(crate) fn account_name(authority: u64, sub_authorities: &[u32]) -> io::Result<String> {
    const UNITS: usize = 512;
    let mut sid = encode_sid(authority, sub_authorities);
    let (mut name, mut domain) = ([0_u16; UNITS], [0_u16; UNITS]);
    let (mut name_length, mut domain_length) = (UNITS as u32, UNITS as u32);
    let mut account_type = 0;
    // SAFETY: the SID is well formed and aligned; both buffers are writable for as many units as are
    // named.
    let done = unsafe {
        LookupAccountSidW(
            ptr::null(),
            sid.as_mut_ptr().cast(),
            name.as_mut_ptr(),
            &mut name_length,
            domain.as_mut_ptr(),
            &mut domain_length,
            &mut account_type,
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    let text = |units: &[u16], length: u32| String::from_utf16_lossy(&units[..(length as usize).min(UNITS)]);
    let (name, domain) = (text(&name, name_length), text(&domain, domain_length));
    Ok(if domain.is_empty() { name } else { format!(r"{domain}\{name}") })
}
