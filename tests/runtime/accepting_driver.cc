// A CUDA driver (libcuda.so.1) without a device, for tests of what only prepares work for one: cuDNN compiles its
// kernels for any GPU that is described to it, and then wants a driver that takes them. This one takes everything and
// does nothing.

extern "C" {

#define TREFOIL_ACCEPTED(name) \
  int name() { return 0; }
// What cuDNN 9 looks up.
TREFOIL_ACCEPTED(cuCtxGetCurrent)
TREFOIL_ACCEPTED(cuCtxGetLimit)
TREFOIL_ACCEPTED(cuCtxPopCurrent)
TREFOIL_ACCEPTED(cuCtxPushCurrent)
TREFOIL_ACCEPTED(cuDeviceGet)
TREFOIL_ACCEPTED(cuDeviceGetCount)
TREFOIL_ACCEPTED(cuGetErrorName)
TREFOIL_ACCEPTED(cuGetErrorString)
TREFOIL_ACCEPTED(cuKernelGetAttribute)
TREFOIL_ACCEPTED(cuKernelSetAttribute)
TREFOIL_ACCEPTED(cuLaunchCooperativeKernel)
TREFOIL_ACCEPTED(cuLaunchKernel)
TREFOIL_ACCEPTED(cuLaunchKernelEx)
TREFOIL_ACCEPTED(cuLibraryLoadFromFile)
TREFOIL_ACCEPTED(cuLibraryUnload)
TREFOIL_ACCEPTED(cuLinkAddData)
TREFOIL_ACCEPTED(cuLinkComplete)
TREFOIL_ACCEPTED(cuLinkCreate)
TREFOIL_ACCEPTED(cuLinkDestroy)
TREFOIL_ACCEPTED(cuOccupancyMaxPotentialClusterSize)
TREFOIL_ACCEPTED(cuStreamGetCtx)

int cuDriverGetVersion(int* version) {
  *version = 13000;
  return 0;
}

int cuLibraryLoadData(void** library, const void*) {
  static int loaded;
  *library = &loaded;
  return 0;
}

int cuLibraryGetKernel(void** kernel, void*, const char*) {
  static int found;
  *kernel = &found;
  return 0;
}

}  // extern "C"
