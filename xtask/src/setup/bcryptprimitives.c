/* Wine 8 has no bcryptprimitives.dll, whose ProcessPrng the standard library of Rust draws its random numbers from.
 * SystemFunction036 (RtlGenRandom) is the same source under its old name; it takes at most a ULONG of bytes. */
unsigned char __stdcall SystemFunction036(void *buffer, unsigned long length);

__declspec(dllexport) int __stdcall ProcessPrng(unsigned char *buffer, unsigned long long length) {
    while (length) {
        unsigned long part = length > 0x10000000 ? 0x10000000 : (unsigned long)length;
        if (!SystemFunction036(buffer, part)) return 0;
        buffer += part;
        length -= part;
    }
    return 1;
}
