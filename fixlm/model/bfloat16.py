"""Where bfloat16 pays: on processors that multiply such matrices themselves."""

import torch


def multiplies_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Whether the device has bfloat16 products; a CPU without them still gives them, slowly, but not in an LSTM."""
    kind = torch.device(device).type
    if kind == "cpu":
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return bool(supported and supported())
    return torch.cuda.is_bf16_supported() if kind == "cuda" else False
