"""Networks by name; a new one is one file and one line here."""

from diga.models.deeplab import deeplab_resnet101 as deeplab_resnet101
from diga.models.deeplab import deeplab_resnet101_official as deeplab_resnet101_official
from diga.models.deeplab_v2 import deeplab_v2_adapter as deeplab_v2_adapter
from diga.models.hrnet import hrnet_w48_ocr as hrnet_w48_ocr
from diga.models.streetnet import streetnet as streetnet
from diga.models.streetnet import streetnet_aux as streetnet_aux
