"""How the starter models are made: pretrain -> teach -> adapters -> evaluate -> cards, each stage resumable."""
